"""Gemma 2 (Gemma team 2024): soft caps on scores and logits, a window in every other layer."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families import _gemma, _llama
from gptkit.interop.families._gemma import layouts
from gptkit.interop.families._llama import IGNORED
from gptkit.interop.fields import Fields

__all__ = ["ARCHITECTURE", "IGNORED", "SILENT", "layouts", "read", "write"]

ARCHITECTURE = "Gemma2ForCausalLM"
SILENT = {
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "num_key_value_heads": 4,
}


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    cap, window = _gemma.cap_of(fields, "attn_logit_softcapping"), fields.take("sliding_window", 4096)
    attention = {"name": "soft_capped", "cap": cap} if cap else {"name": "grouped_query"}
    section = _gemma.read(fields, attention, fields.number("rms_norm_eps", 1e-6))
    slides = _llama.types_of(fields, [i % 2 == 0 for i in range(section["n_layers"])])
    return _llama.windowed(section, window, slides)


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    window, slides = _llama.window_of(section)
    return {
        **_gemma.write(section), "attn_logit_softcapping": section["attention"].get("cap"),
        "sliding_window": window or 4096, "layer_types": _gemma.types(slides),
    }  # fmt: skip
