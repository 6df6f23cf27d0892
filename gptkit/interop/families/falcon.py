"""Falcon (Almazrouei et al. 2023): few heads of keys and values, blocks in parallel, rotary positions.

Those with ALiBi (Falcon-RW) are refused: `transformers` adds slope * position in bfloat16, by a key's
place in the text. At the shape of Falcon-RW-1B and 2,048 tokens, ALiBi itself gives other logits.
"""

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

ARCHITECTURE = "FalconForCausalLM"
IGNORED = (".rotary_emb.inv_freq",)


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    heads, width = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    context = fields.whole("max_position_embeddings", 2048)
    new, parallel = (
        bool(fields.take("new_decoder_architecture", False)),
        bool(fields.take("parallel_attn", True)),
    )
    one, kv_heads = bool(fields.take("multi_query", True)), fields.whole_or("num_kv_heads", heads)
    bias, dropout = bool(fields.take("bias", False)), fields.number("hidden_dropout", 0.0)
    norms = fields.take("num_ln_in_parallel_attn", None) or (2 if new else 1)
    fields.only("apply_residual_connection_post_layernorm", False)
    if fields.take("alibi", False):
        rotary(fields)
        why = "Falcon rounds each position's bias to 8 bits, so that biases are no function of distance"
        fields.refuse("alibi", why)
    block = {"name": "parallel", "shared_norm": norms == 1} if new or parallel else {"name": "pre"}
    return {
        "context_length": context, "d_model": width, "n_layers": fields.whole("num_hidden_layers"), "n_heads": heads,
        "n_kv_heads": kv_heads if new else 1 if one else heads,
        "d_ff": fields.whole_or("ffn_hidden_size", 4 * width), "vocab_size": fields.whole("vocab_size"),
        "embedding": {"name": "token", "dropout": 0.0},
        "position": rotary(fields, context=context),
        "attention": {"name": "grouped_query", "bias": bias, "dropout": fields.number("attention_dropout", 0.0)},
        "feed_forward": {"name": "mlp", "activation": activation(fields, "activation", "gelu"), "bias": bias},
        "norm": {"name": "layer", "eps": fields.number("layer_norm_epsilon", 1e-5), "bias": True},
        "block": {**block, "dropout": dropout},
        "head": {"name": "language_model", "tied": bool(fields.take("tie_word_embeddings", True))},
    }  # fmt: skip


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section; one head of keys and values is the first architecture, several the new one."""
    block, kv_heads = section["block"], section["n_kv_heads"] or section["n_heads"]
    new = (block["name"] == "parallel" and kv_heads not in {1, section["n_heads"]}) or block.get(
        "shared_norm"
    ) is False
    return {
        "hidden_size": section["d_model"], "num_hidden_layers": section["n_layers"],
        "num_attention_heads": section["n_heads"], "num_kv_heads": kv_heads, "new_decoder_architecture": new,
        "multi_query": kv_heads == 1, "parallel_attn": block["name"] == "parallel", "alibi": False,
        "num_ln_in_parallel_attn": (1 if block["shared_norm"] else 2) if new else None,
        "ffn_hidden_size": section["d_ff"] or 4 * section["d_model"], "vocab_size": section["vocab_size"],
        "max_position_embeddings": section["context_length"], "bias": section["attention"]["bias"],
        "activation": THEIRS[section["feed_forward"]["activation"]], "layer_norm_epsilon": section["norm"]["eps"],
        "attention_dropout": section["attention"]["dropout"], "hidden_dropout": block["dropout"],
        "tie_word_embeddings": section["head"]["tied"],
        "rope_parameters": rope_parameters(section["position"], section["context_length"]),
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    bias, heads, block = section["attention"]["bias"], section["n_heads"], section["block"]
    kv_heads = section["n_kv_heads"] or heads
    norms = ("input_layernorm", "post_attention_layernorm")
    if block["name"] == "parallel" and not block["shared_norm"]:
        norms = ("ln_attn", "ln_mlp")
    found: dict[str, Layout] = {"embedding.weight": Same("transformer.word_embeddings.weight")}
    for i in range(section["n_layers"]):
        ours, theirs = f"blocks.{i}", f"transformer.h.{i}"
        for kind in ("weight", "bias")[: 1 + bias]:
            name = f"{theirs}.self_attention.query_key_value.{kind}"
            found[f"{ours}.attention.qkv.{kind}"] = (
                Same(name) if kv_heads == 1 else Grouped(name, heads, kv_heads)
            )
        found |= linear_layouts(f"{ours}.attention.out", f"{theirs}.self_attention.dense", bias=bias)
        found |= linear_layouts(f"{ours}.feed_forward.up", f"{theirs}.mlp.dense_h_to_4h", bias=bias)
        found |= linear_layouts(f"{ours}.feed_forward.down", f"{theirs}.mlp.dense_4h_to_h", bias=bias)
        found |= norm_layouts(f"{ours}.attention_norm", f"{theirs}.{norms[0]}", bias=True)
        if not block.get("shared_norm"):
            found |= norm_layouts(f"{ours}.feed_forward_norm", f"{theirs}.{norms[1]}", bias=True)
    found |= norm_layouts("norm", "transformer.ln_f", bias=True)
    if not section["head"]["tied"]:
        found["head.table"] = Same("lm_head.weight")
    return found
