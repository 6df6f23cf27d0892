"""Qwen 3 (Yang et al. 2025): queries and keys normalised head by head, heads of any width."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families import _llama, qwen2
from gptkit.interop.families._llama import IGNORED, layouts
from gptkit.interop.fields import Fields

__all__ = ["ARCHITECTURE", "IGNORED", "SILENT", "layouts", "read", "write"]

ARCHITECTURE = "Qwen3ForCausalLM"
SILENT = {
    "head_dim": 128,
    "max_position_embeddings": 32768,
    "num_key_value_heads": 32,
    "sliding_window": 4096,
}


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    attention = {
        "name": "qk_norm", "per_head": True, "eps": fields.number("rms_norm_eps", 1e-6),
        "bias": bool(fields.take("attention_bias", False)),
    }  # fmt: skip
    return qwen2.windows(fields, _llama.read(fields, attention=attention))


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    return {
        **_llama.write(section), **qwen2.written_windows(section), "rms_norm_eps": section["norm"]["eps"],
        "attention_bias": section["attention"]["bias"],
    }  # fmt: skip
