"""Mistral (Jiang et al. 2023): Llama's composition, with a sliding window in every layer of the first version."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families import _llama
from gptkit.interop.families._llama import IGNORED, layouts
from gptkit.interop.fields import Fields

__all__ = ["ARCHITECTURE", "IGNORED", "SILENT", "layouts", "read", "write"]

ARCHITECTURE = "MistralForCausalLM"
SILENT = {"max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096}


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    window = fields.take("sliding_window", None)
    section = _llama.read(fields, attention={"name": "grouped_query", "bias": False})
    return _llama.windowed(section, window, [True] * section["n_layers"])


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    window, _ = _llama.window_of(section)
    return {**_llama.write(section), "rms_norm_eps": section["norm"]["eps"], "sliding_window": window}
