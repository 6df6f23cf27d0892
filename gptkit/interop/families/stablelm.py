"""StableLM 2 (Bellagente et al. 2024): LayerNorm, rotary on a quarter of each head, gated networks."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families import _llama
from gptkit.interop.families._llama import IGNORED
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout

__all__ = ["ARCHITECTURE", "IGNORED", "SILENT", "layouts", "read", "write"]

ARCHITECTURE = "StableLmForCausalLM"
SILENT = {"max_position_embeddings": 4096, "num_key_value_heads": 32}


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    norm = {"name": "layer", "eps": fields.number("layer_norm_eps", 1e-5), "bias": True}
    attention = {"name": "grouped_query", "bias": bool(fields.take("use_qkv_bias", False)), "out_bias": False}
    parallel = bool(fields.take("use_parallel_residual", False))
    dropout = fields.number("hidden_dropout", 0.0)
    fields.only("qk_layernorm", False)
    section = _llama.read(fields, attention=attention, norm=norm, fraction=0.25)
    block = {"name": "parallel", "shared_norm": True} if parallel else {"name": "pre"}
    return {**section, "block": {**block, "dropout": dropout}}


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    return {
        **_llama.write(section, fraction=True, head_dim=False), "layer_norm_eps": section["norm"]["eps"],
        "use_qkv_bias": section["attention"]["bias"], "qk_layernorm": False,
        "use_parallel_residual": section["block"]["name"] == "parallel", "hidden_dropout": section["block"]["dropout"],
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    norms = {"attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}
    if section["block"].get("shared_norm"):
        del norms["feed_forward_norm"]
    return _llama.layouts(section, norms=norms, norm_bias=True)
