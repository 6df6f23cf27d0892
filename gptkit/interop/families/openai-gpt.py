"""GPT-1 (Radford et al. 2018): norms after the sums, positions learned."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families._shared import norm_layouts
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout, Same

ARCHITECTURE = "OpenAIGPTLMHeadModel"
IGNORED = (".attn.bias", ".position_ids")
_ACTIVATIONS = {"gelu": "gelu_tanh", "gelu_new": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}
_THEIRS = {"gelu_tanh": "gelu", "relu": "relu", "silu": "silu"}
_MAPS = {
    "attention.qkv": "attn.c_attn", "attention.out": "attn.c_proj", "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
}  # fmt: skip


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    width, eps = fields.whole("n_embd"), fields.number("layer_norm_epsilon", 1e-5)
    for name in ("n_ctx", "predict_special_tokens", *fields.named("summary_")):
        fields.take(name, None)  # of the heads that classify
    fields.only("n_special", 0)
    kind = fields.take("afn", "gelu")
    if kind not in _ACTIVATIONS:
        fields.refuse("afn", f"known are {', '.join(_ACTIVATIONS)}")
    return {
        "context_length": fields.whole("n_positions"), "d_model": width, "n_layers": fields.whole("n_layer"),
        "n_heads": fields.whole("n_head"), "d_ff": 4 * width, "vocab_size": fields.whole("vocab_size"),
        "position": "learned", "embedding": {"name": "token", "dropout": fields.number("embd_pdrop", 0.1)},
        "attention": {"name": "multi_head", "bias": True, "dropout": fields.number("attn_pdrop", 0.1)},
        "feed_forward": {"name": "mlp", "activation": _ACTIVATIONS.get(kind, "gelu_tanh"), "bias": True},
        "norm": {"name": "layer", "eps": eps, "bias": True},
        "block": {"name": "post", "dropout": fields.number("resid_pdrop", 0.1)},
        "head": {"name": "language_model", "tied": bool(fields.take("tie_word_embeddings", True))},
    }  # fmt: skip


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    return {
        "n_embd": section["d_model"], "n_layer": section["n_layers"], "n_head": section["n_heads"],
        "n_positions": section["context_length"], "vocab_size": section["vocab_size"],
        "afn": _THEIRS[section["feed_forward"]["activation"]], "layer_norm_epsilon": section["norm"]["eps"],
        "embd_pdrop": section["embedding"]["dropout"], "attn_pdrop": section["attention"]["dropout"],
        "resid_pdrop": section["block"]["dropout"], "tie_word_embeddings": section["head"]["tied"],
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept; maps lie as [in, out]."""
    found: dict[str, Layout] = {
        "embedding.weight": Same("transformer.tokens_embed.weight"),
        "position.weight": Same("transformer.positions_embed.weight"),
    }
    for i in range(section["n_layers"]):
        ours, theirs = f"blocks.{i}", f"transformer.h.{i}"
        for mine, name in _MAPS.items():
            found[f"{ours}.{mine}.weight"] = Same(f"{theirs}.{name}.weight", turned=True)
            found[f"{ours}.{mine}.bias"] = Same(f"{theirs}.{name}.bias")
        found |= norm_layouts(f"{ours}.attention_norm", f"{theirs}.ln_1", bias=True)
        found |= norm_layouts(f"{ours}.feed_forward_norm", f"{theirs}.ln_2", bias=True)
    if not section["head"]["tied"]:
        found["head.table"] = Same("lm_head.weight")
    return found
