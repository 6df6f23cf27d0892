"""OLMo 2 (OLMo team 2024): norms after the sublayers, queries and keys normalised over all heads."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families import _llama
from gptkit.interop.families._llama import IGNORED
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout

__all__ = ["ARCHITECTURE", "IGNORED", "layouts", "read", "write"]

ARCHITECTURE = "Olmo2ForCausalLM"
_NORMS = {
    "attention_result_norm": "post_attention_layernorm",
    "feed_forward_result_norm": "post_feedforward_layernorm",
}


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    eps = fields.number("rms_norm_eps", 1e-5)
    attention = {
        "name": "qk_norm",
        "per_head": False,
        "eps": eps,
        "bias": bool(fields.take("attention_bias", False)),
    }
    norm = {"name": "rms", "eps": eps}
    return _llama.read(fields, attention=attention, norm=norm, block="post_sublayer")


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    own = {"rms_norm_eps": section["norm"]["eps"], "attention_bias": section["attention"]["bias"]}
    return {**_llama.write(section, head_dim=False), **own}


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    return _llama.layouts(section, norms=_NORMS)
