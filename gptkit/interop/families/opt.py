"""OPT (Zhang et al. 2022): GPT-3's composition with ReLU, and a table of positions that begins at its third row."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families._shared import THEIRS, activation, linear_layouts, norm_layouts
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout, Same, Stacked

ARCHITECTURE = "OPTForCausalLM"
IGNORED = ()
_UNUSED_ROWS = 2


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    width, bias = fields.whole("hidden_size"), bool(fields.take("enable_bias", True))
    dropout, before = fields.number("dropout", 0.1), bool(fields.take("do_layer_norm_before", True))
    fields.only("word_embed_proj_dim", width)
    fields.only("layer_norm_elementwise_affine", True)
    fields.only("_remove_final_layer_norm", False)
    fields.only("activation_dropout", 0.0)
    return {
        "context_length": fields.whole("max_position_embeddings", 2048), "d_model": width,
        "n_layers": fields.whole("num_hidden_layers"), "n_heads": fields.whole("num_attention_heads"),
        "d_ff": fields.whole("ffn_dim"), "vocab_size": fields.whole("vocab_size"),
        "embedding": {"name": "token", "dropout": 0.0},
        "position": {"name": "learned"},
        "attention": {"name": "multi_head", "bias": bias, "dropout": fields.number("attention_dropout", 0.0)},
        "feed_forward": {"name": "mlp", "activation": activation(fields, "activation_function", "relu"), "bias": bias},
        "norm": {"name": "layer", "eps": 1e-5, "bias": True},
        "block": {"name": "pre" if before else "post", "dropout": dropout},
        "head": {"name": "language_model", "tied": bool(fields.take("tie_word_embeddings", True))},
    }  # fmt: skip


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    return {
        "hidden_size": section["d_model"], "word_embed_proj_dim": section["d_model"],
        "num_hidden_layers": section["n_layers"], "num_attention_heads": section["n_heads"],
        "ffn_dim": section["d_ff"] or 4 * section["d_model"], "vocab_size": section["vocab_size"],
        "max_position_embeddings": section["context_length"], "enable_bias": section["attention"]["bias"],
        "activation_function": THEIRS[section["feed_forward"]["activation"]],
        "attention_dropout": section["attention"]["dropout"], "dropout": section["block"]["dropout"],
        "do_layer_norm_before": section["block"]["name"] == "pre", "tie_word_embeddings": section["head"]["tied"],
        "pad_token_id": None,
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    bias, width, top = section["attention"]["bias"], section["d_model"], "model.decoder"
    found: dict[str, Layout] = {
        "embedding.weight": Same(f"{top}.embed_tokens.weight"),
        "position.weight": Same(f"{top}.embed_positions.weight", skipped=_UNUSED_ROWS),
    }
    for i in range(section["n_layers"]):
        ours, theirs = f"blocks.{i}", f"{top}.layers.{i}"
        for kind in ("weight", "bias")[: 1 + bias]:
            parts = tuple(f"{theirs}.self_attn.{part}_proj.{kind}" for part in "qkv")
            found[f"{ours}.attention.qkv.{kind}"] = Stacked(parts, (width, width, width))
        found |= linear_layouts(f"{ours}.attention.out", f"{theirs}.self_attn.out_proj", bias=bias)
        found |= linear_layouts(f"{ours}.feed_forward.up", f"{theirs}.fc1", bias=bias)
        found |= linear_layouts(f"{ours}.feed_forward.down", f"{theirs}.fc2", bias=bias)
        found |= norm_layouts(f"{ours}.attention_norm", f"{theirs}.self_attn_layer_norm", bias=True)
        found |= norm_layouts(f"{ours}.feed_forward_norm", f"{theirs}.final_layer_norm", bias=True)
    if section["block"]["name"] == "pre":
        found |= norm_layouts("norm", f"{top}.final_layer_norm", bias=True)
    if not section["head"]["tied"]:
        found["head.table"] = Same("lm_head.weight")
    return found
