"""BLOOM (Le Scao et al. 2022): ALiBi, and a norm after the embedding."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families._shared import linear_layouts, norm_layouts
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Grouped, Layout, Same

ARCHITECTURE = "BloomForCausalLM"
IGNORED = (".masked_bias",)
# What older files say of how it was computed, and not of what.
_COMPUTED = (
    "attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion", "offset_alibi", "skip_bias_add",
    "skip_bias_add_qkv", "unk_token_id",
)  # fmt: skip


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    for name in _COMPUTED:
        fields.take(name, None)
    fields.only("apply_residual_connection_post_layernorm", False)
    fields.only("n_inner", None)
    width = fields.whole("n_embed" if "n_embed" in fields.config else "hidden_size")
    fields.take("hidden_size", None)
    heads = fields.whole("num_attention_heads" if "num_attention_heads" in fields.config else "n_head")
    eps, dropout = fields.number("layer_norm_epsilon", 1e-5), fields.number("hidden_dropout", 0.0)
    count = "num_hidden_layers" if "num_hidden_layers" in fields.config else "n_layer"
    return {
        "context_length": fields.whole("seq_length", 2048), "d_model": width, "n_layers": fields.whole(count),
        "n_heads": heads, "d_ff": 4 * width, "vocab_size": fields.whole("vocab_size"), "position": "alibi",
        "embedding": {"name": "normed", "eps": eps, "bias": True, "dropout": 0.0},
        "attention": {"name": "multi_head", "bias": True, "dropout": fields.number("attention_dropout", 0.0)},
        "feed_forward": {"name": "mlp", "activation": "gelu_tanh", "bias": True},
        "norm": {"name": "layer", "eps": eps, "bias": True}, "block": {"name": "pre", "dropout": dropout},
        "head": {"name": "language_model", "tied": bool(fields.take("tie_word_embeddings", True))},
    }  # fmt: skip


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    return {
        "hidden_size": section["d_model"], "n_layer": section["n_layers"], "n_head": section["n_heads"],
        "vocab_size": section["vocab_size"], "seq_length": section["context_length"],
        "layer_norm_epsilon": section["norm"]["eps"], "hidden_dropout": section["block"]["dropout"],
        "attention_dropout": section["attention"]["dropout"], "tie_word_embeddings": section["head"]["tied"],
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    heads, top = section["n_heads"], "transformer"
    found: dict[str, Layout] = {"embedding.weight": Same(f"{top}.word_embeddings.weight")}
    found |= norm_layouts("embedding.norm", f"{top}.word_embeddings_layernorm", bias=True)
    for i in range(section["n_layers"]):
        ours, theirs = f"blocks.{i}", f"{top}.h.{i}"
        for kind in ("weight", "bias"):
            name = f"{theirs}.self_attention.query_key_value.{kind}"
            found[f"{ours}.attention.qkv.{kind}"] = Grouped(name, heads, heads)
        found |= linear_layouts(f"{ours}.attention.out", f"{theirs}.self_attention.dense", bias=True)
        found |= linear_layouts(f"{ours}.feed_forward.up", f"{theirs}.mlp.dense_h_to_4h", bias=True)
        found |= linear_layouts(f"{ours}.feed_forward.down", f"{theirs}.mlp.dense_4h_to_h", bias=True)
        found |= norm_layouts(f"{ours}.attention_norm", f"{theirs}.input_layernorm", bias=True)
        found |= norm_layouts(f"{ours}.feed_forward_norm", f"{theirs}.post_attention_layernorm", bias=True)
    found |= norm_layouts("norm", f"{top}.ln_f", bias=True)
    if not section["head"]["tied"]:
        found["head.table"] = Same("lm_head.weight")
    return found
