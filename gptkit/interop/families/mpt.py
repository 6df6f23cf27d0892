"""MPT (MosaicML 2023): ALiBi and no biases anywhere."""

from __future__ import annotations

from typing import Any

from gptkit.errors import UserError
from gptkit.interop.families._shared import norm_layouts
from gptkit.interop.fields import NEUTRAL, Fields
from gptkit.interop.layout import Layout, Same

ARCHITECTURE = "MptForCausalLM"
IGNORED = ()
_ONLY = {
    "attn_type": "multihead_attention", "clip_qkv": None, "prefix_lm": False, "qk_ln": False,
    "attn_uses_sequence_id": False, "alibi": True, "alibi_bias_max": 8,
}  # fmt: skip


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    heads, width = fields.whole("n_heads"), fields.whole("d_model")
    for name, value in (("expansion_ratio", 4), ("logit_scale", None), ("no_bias", True)):
        fields.only(name, value)
    for neutral in ("learned_pos_emb", "embedding_fraction", "norm_type", "init_config", "tokenizer_name"):
        fields.take(neutral, None)  # with ALiBi no positions are learned, whatever the first says
    if heads & (heads - 1):
        fields.refuse("n_heads", "MPT's slopes are ALiBi's only where the heads are a power of two")
    attention = dict(fields.take("attn_config", None) or {})
    for name, value in _ONLY.items():
        if attention.pop(name, value) != value:
            fields.refuse("attn_config", f"{name} can only be {value!r}")
    scale, dropout = attention.pop("softmax_scale", None), float(attention.pop("attn_pdrop", 0.0))
    attention.pop("attn_impl", None)
    strange = sorted(set(attention) - NEUTRAL)
    if strange:
        fields.refuse("attn_config", f"{', '.join(strange)} is not known")
    eps = fields.number("layer_norm_epsilon", 1e-5)
    fields.only("resid_pdrop", dropout, 0.0)
    return {
        "context_length": fields.whole("max_seq_len", 2048), "d_model": width, "n_layers": fields.whole("n_layers"),
        "n_heads": heads, "d_ff": 4 * width, "vocab_size": fields.whole("vocab_size"), "position": "alibi",
        "embedding": {"name": "token", "dropout": fields.number("emb_pdrop", 0.0)},
        "attention": {"name": "multi_head", "bias": False, "dropout": dropout, "scale": scale},
        "feed_forward": {"name": "mlp", "activation": "gelu", "bias": False},
        "norm": {"name": "layer", "eps": eps, "bias": False}, "block": {"name": "pre", "dropout": dropout},
        "head": {"name": "language_model", "tied": bool(fields.take("tie_word_embeddings", True))},
    }  # fmt: skip


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    attention = section["attention"]
    dropout = attention["dropout"]
    if "scale" not in attention:
        raise UserError(f"its attention is {attention['name']!r}, not multi_head")
    return {
        "d_model": section["d_model"], "n_layers": section["n_layers"], "n_heads": section["n_heads"],
        "expansion_ratio": 4, "max_seq_len": section["context_length"], "vocab_size": section["vocab_size"],
        "layer_norm_epsilon": section["norm"]["eps"], "emb_pdrop": section["embedding"]["dropout"],
        "resid_pdrop": section["block"]["dropout"], "tie_word_embeddings": section["head"]["tied"],
        "attn_config": {
            "attn_pdrop": 0 if dropout == 0 else dropout, "softmax_scale": attention["scale"], "alibi": True,
        },
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    found: dict[str, Layout] = {"embedding.weight": Same("transformer.wte.weight")}
    for i in range(section["n_layers"]):
        ours, theirs = f"blocks.{i}", f"transformer.blocks.{i}"
        found[f"{ours}.attention.qkv.weight"] = Same(f"{theirs}.attn.Wqkv.weight")
        found[f"{ours}.attention.out.weight"] = Same(f"{theirs}.attn.out_proj.weight")
        found[f"{ours}.feed_forward.up.weight"] = Same(f"{theirs}.ffn.up_proj.weight")
        found[f"{ours}.feed_forward.down.weight"] = Same(f"{theirs}.ffn.down_proj.weight")
        found |= norm_layouts(f"{ours}.attention_norm", f"{theirs}.norm_1", bias=False)
        found |= norm_layouts(f"{ours}.feed_forward_norm", f"{theirs}.norm_2", bias=False)
    found |= norm_layouts("norm", "transformer.norm_f", bias=False)
    if not section["head"]["tied"]:
        found["head.table"] = Same("lm_head.weight")
    return found
