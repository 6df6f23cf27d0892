"""Llama 1, 2 and 3 (Touvron et al. 2023; Grattafiori et al. 2024)."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families import _llama
from gptkit.interop.families._llama import IGNORED, layouts
from gptkit.interop.fields import Fields

__all__ = ["ARCHITECTURE", "IGNORED", "layouts", "read", "write"]

ARCHITECTURE = "LlamaForCausalLM"


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    attention = {"name": "grouped_query", "bias": bool(fields.take("attention_bias", False))}
    return _llama.read(fields, attention=attention, mlp_bias=bool(fields.take("mlp_bias", False)))


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    return {
        **_llama.write(section), "rms_norm_eps": section["norm"]["eps"], "attention_bias": section["attention"]["bias"],
        "mlp_bias": section["feed_forward"]["bias"],
    }  # fmt: skip
