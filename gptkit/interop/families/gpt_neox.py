"""GPT-NeoX and Pythia (Black et al. 2022; Biderman et al. 2023): rotary on a part of each head, blocks in parallel."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families._shared import (
    THEIRS,
    activation,
    linear_layouts,
    norm_layouts,
    rope_parameters,
    rotary,
)
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Grouped, Layout, Same

ARCHITECTURE = "GPTNeoXForCausalLM"
IGNORED = (".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")
_SILENT = {"rotary_emb_base": 10000.0, "rotary_pct": 0.25}  # which alone transformers looks up


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    heads, width = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    context = fields.whole("max_position_embeddings", 2048)
    bias, dropout = bool(fields.take("attention_bias", True)), fields.number("hidden_dropout", 0.0)
    fields.only("attention_probs_dropout_prob", 0)
    fields.only("hidden_dropout_prob", 0)
    for name, ruling in (("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct")):
        fields.only(name, fields.config.get(ruling, _SILENT[ruling]))
    parallel = bool(fields.take("use_parallel_residual", True))
    block = {"name": "parallel", "shared_norm": False} if parallel else {"name": "pre"}
    return {
        "context_length": context, "d_model": width, "n_layers": fields.whole("num_hidden_layers"), "n_heads": heads,
        "d_ff": fields.whole("intermediate_size"), "vocab_size": fields.whole("vocab_size"),
        "embedding": {"name": "token", "dropout": dropout},
        "position": rotary(fields, fraction=0.25, context=context, names=("rotary_emb_base", "rotary_pct")),
        "attention": {"name": "multi_head", "bias": bias, "dropout": fields.number("attention_dropout", 0.0)},
        "feed_forward": {"name": "mlp", "activation": activation(fields, "hidden_act", "gelu"), "bias": True},
        "norm": {"name": "layer", "eps": fields.number("layer_norm_eps", 1e-5), "bias": True},
        "block": {**block, "dropout": dropout},
        "head": {"name": "language_model", "tied": bool(fields.take("tie_word_embeddings", False))},
    }  # fmt: skip


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    attention, block = section["attention"], section["block"]
    rope = rope_parameters(section["position"], section["context_length"])
    return {
        "hidden_size": section["d_model"], "num_hidden_layers": section["n_layers"],
        "num_attention_heads": section["n_heads"], "intermediate_size": section["d_ff"] or 4 * section["d_model"],
        "vocab_size": section["vocab_size"], "max_position_embeddings": section["context_length"],
        "hidden_act": THEIRS[section["feed_forward"]["activation"]], "layer_norm_eps": section["norm"]["eps"],
        "attention_bias": attention["bias"], "attention_dropout": attention["dropout"],
        "hidden_dropout": block["dropout"],
        "use_parallel_residual": block["name"] == "parallel", "tie_word_embeddings": section["head"]["tied"],
        "rope_parameters": {**rope, "partial_rotary_factor": section["position"]["fraction"]},
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    bias = section["attention"]["bias"]
    found: dict[str, Layout] = {"embedding.weight": Same("gpt_neox.embed_in.weight")}
    for i in range(section["n_layers"]):
        ours, theirs = f"blocks.{i}", f"gpt_neox.layers.{i}"
        heads = section["n_heads"]
        for kind in ("weight", "bias")[: 1 + bias]:
            found[f"{ours}.attention.qkv.{kind}"] = Grouped(
                f"{theirs}.attention.query_key_value.{kind}", heads, heads
            )
        found |= linear_layouts(f"{ours}.attention.out", f"{theirs}.attention.dense", bias=bias)
        found |= linear_layouts(f"{ours}.feed_forward.up", f"{theirs}.mlp.dense_h_to_4h", bias=True)
        found |= linear_layouts(f"{ours}.feed_forward.down", f"{theirs}.mlp.dense_4h_to_h", bias=True)
        found |= norm_layouts(f"{ours}.attention_norm", f"{theirs}.input_layernorm", bias=True)
        found |= norm_layouts(f"{ours}.feed_forward_norm", f"{theirs}.post_attention_layernorm", bias=True)
    found |= norm_layouts("norm", "gpt_neox.final_layer_norm", bias=True)
    if not section["head"]["tied"]:
        found["head.table"] = Same("lm_head.weight", once="embed_out.weight")
    return found
