"""GPT-J (Wang and Komatsuzaki 2021): rotary on neighbouring pairs, one norm for a parallel block."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families._shared import (
    BASE,
    THEIRS,
    activation,
    linear_layouts,
    norm_layouts,
    rope_parameters,
)
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout, Same, Stacked

ARCHITECTURE = "GPTJForCausalLM"
IGNORED = (".attn.bias", ".attn.masked_bias", ".attn.embed_positions")


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    heads, width = fields.whole("n_head"), fields.whole("n_embd")
    d_head = max(1, width // heads)
    turning = fields.whole_or("rotary_dim", d_head)
    fields.only("scale_attn_weights", True)
    fields.only("rotary", True)
    for name in fields.named("summary_"):
        fields.take(name)  # of the heads that classify
    hidden = activation(fields, "activation_function", "gelu_new")
    return {
        "context_length": fields.whole("n_positions", 2048), "d_model": width, "n_layers": fields.whole("n_layer"),
        "n_heads": heads, "d_ff": fields.whole_or("n_inner", 4 * width), "vocab_size": fields.whole("vocab_size"),
        "embedding": {"name": "token", "dropout": fields.number("embd_pdrop", 0.0)},
        "position": {"name": "rotary", "base": BASE, "fraction": turning / d_head, "interleaved": True},
        "attention": {"name": "multi_head", "bias": False, "dropout": fields.number("attn_pdrop", 0.0)},
        "feed_forward": {"name": "mlp", "activation": hidden, "bias": True},
        "norm": {"name": "layer", "eps": fields.number("layer_norm_epsilon", 1e-5), "bias": True},
        "block": {"name": "parallel", "shared_norm": True, "dropout": fields.number("resid_pdrop", 0.0)},
        "head": {"name": "language_model", "tied": bool(fields.take("tie_word_embeddings", False)), "bias": True},
    }  # fmt: skip


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    d_head = section["d_model"] // section["n_heads"]
    rope_parameters(section["position"], section["context_length"])  # it must be rotary
    return {
        "n_embd": section["d_model"], "n_layer": section["n_layers"], "n_head": section["n_heads"],
        "n_inner": section["d_ff"] or 4 * section["d_model"], "vocab_size": section["vocab_size"],
        "n_positions": section["context_length"], "rotary_dim": round(section["position"]["fraction"] * d_head),
        "activation_function": THEIRS[section["feed_forward"]["activation"]],
        "layer_norm_epsilon": section["norm"]["eps"], "attn_pdrop": section["attention"]["dropout"],
        "resid_pdrop": section["block"]["dropout"], "embd_pdrop": section["embedding"]["dropout"],
        "tie_word_embeddings": section["head"]["tied"],
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    width = section["d_model"]
    found: dict[str, Layout] = {"embedding.weight": Same("transformer.wte.weight")}
    for i in range(section["n_layers"]):
        ours, theirs = f"blocks.{i}", f"transformer.h.{i}"
        parts = tuple(f"{theirs}.attn.{part}_proj.weight" for part in "qkv")
        found[f"{ours}.attention.qkv.weight"] = Stacked(parts, (width, width, width))
        found[f"{ours}.attention.out.weight"] = Same(f"{theirs}.attn.out_proj.weight")
        found |= linear_layouts(f"{ours}.feed_forward.up", f"{theirs}.mlp.fc_in", bias=True)
        found |= linear_layouts(f"{ours}.feed_forward.down", f"{theirs}.mlp.fc_out", bias=True)
        found |= norm_layouts(f"{ours}.attention_norm", f"{theirs}.ln_1", bias=True)
    found |= norm_layouts("norm", "transformer.ln_f", bias=True)
    if not section["head"]["tied"]:
        found["head.table"] = Same("lm_head.weight")
    found["head.bias"] = Same("lm_head.bias")
    return found
