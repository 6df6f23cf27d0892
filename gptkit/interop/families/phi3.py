"""Phi 3 (Abdin et al. 2024): Llama's composition with q, k and v in one map, and LongRoPE."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families import _llama
from gptkit.interop.families._llama import IGNORED
from gptkit.interop.families._shared import told_rope
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout

__all__ = ["ARCHITECTURE", "IGNORED", "SILENT", "layouts", "read", "write"]

ARCHITECTURE = "Phi3ForCausalLM"
SILENT = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5}


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    window, dropout = fields.take("sliding_window", None), fields.number("resid_pdrop", 0.0)
    embedding = {"name": "token", "dropout": fields.number("embd_pdrop", 0.0)}
    fields.only("attention_bias", False)
    original, (name, rope) = fields.take("original_max_position_embeddings", 4096), told_rope(fields)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "longrope":
        fields.config = {**fields.config, name: {**rope, "original_max_position_embeddings": original}}
    elif kind != "default":
        fields.problems.append(f"rope_type={kind!r}: only default and longrope can be held")
    section = _llama.read(fields, attention={"name": "grouped_query", "bias": False}, fraction=1.0)
    section |= {"embedding": embedding, "block": {"name": "pre", "dropout": dropout}}
    return _llama.windowed(section, window, [True] * section["n_layers"])


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    window, _ = _llama.window_of(section)
    original = section["position"].get("original_context")
    return {
        **({"original_max_position_embeddings": original} if original else {}),
        **_llama.write(section, fraction=True, head_dim=False), "rms_norm_eps": section["norm"]["eps"],
        "sliding_window": window, "resid_pdrop": section["block"]["dropout"],
        "embd_pdrop": section["embedding"]["dropout"],
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    return _llama.layouts(section, fused=True)
