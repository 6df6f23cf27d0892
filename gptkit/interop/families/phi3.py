"""Phi 3 (Abdin et al. 2024): Llama's composition with q, k and v in one map, and LongRoPE."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families import _llama
from gptkit.interop.families._llama import IGNORED
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout

__all__ = ["ARCHITECTURE", "IGNORED", "layouts", "read", "write"]

ARCHITECTURE = "Phi3ForCausalLM"


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    window, dropout = fields.take("sliding_window", None), fields.take("resid_pdrop", 0.0)
    embedding = {"name": "token", "dropout": fields.take("embd_pdrop", 0.0)}
    fields.take("original_max_position_embeddings", None)
    section = _llama.read(fields, attention={"name": "grouped_query", "bias": False})
    if section["position"]["name"] == "rotary_longrope":
        fields.refuse("rope_parameters", "longrope changes with the length of the text there; here it cannot")
    section |= {"embedding": embedding, "block": {"name": "pre", "dropout": dropout}}
    return _llama.windowed(section, window, [True] * section["n_layers"])


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    window, _ = _llama.window_of(section)
    return {
        **_llama.write(section, fraction=True, head_dim=False), "rms_norm_eps": section["norm"]["eps"],
        "sliding_window": window, "resid_pdrop": section["block"]["dropout"],
        "embd_pdrop": section["embedding"]["dropout"],
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    return _llama.layouts(section, fused=True)
