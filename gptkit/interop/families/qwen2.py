"""Qwen 2 and 2.5 (Yang et al. 2024): Llama's composition with biases on q, k and v, and windows in the upper layers."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families import _llama
from gptkit.interop.families._llama import IGNORED, layouts
from gptkit.interop.fields import Fields

__all__ = ["ARCHITECTURE", "IGNORED", "SILENT", "layouts", "read", "windows", "write", "written_windows"]

ARCHITECTURE = "Qwen2ForCausalLM"
SILENT = {"max_position_embeddings": 32768, "num_key_value_heads": 32, "sliding_window": 4096}


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    fields.only("use_mrope", False)
    section = _llama.read(fields, attention={"name": "grouped_query", "bias": True, "out_bias": False})
    return windows(fields, section)


def windows(fields: Fields, section: dict[str, Any]) -> dict[str, Any]:
    """A section with the windows that the config tells, which hold from a layer on."""
    used, window = fields.take("use_sliding_window", False), fields.take("sliding_window", None)
    first, count = fields.take("max_window_layers", 28), section["n_layers"]
    slides = _llama.types_of(fields, [bool(used) and i >= first for i in range(count)])
    return _llama.windowed(section, window if used else None, slides)


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    return {
        **_llama.write(section, head_dim=section["d_head"] * section["n_heads"] != section["d_model"]),
        **written_windows(section), "rms_norm_eps": section["norm"]["eps"],
    }  # fmt: skip


def written_windows(section: dict[str, Any]) -> dict[str, Any]:
    """The fields that tell windows."""
    window, slides = _llama.window_of(section)
    types = ["sliding_attention" if slid else "full_attention" for slid in slides]
    first = slides.index(True) if window else section["n_layers"]
    return {
        "use_sliding_window": window is not None, "sliding_window": window, "max_window_layers": first,
        "layer_types": types,
    }  # fmt: skip
