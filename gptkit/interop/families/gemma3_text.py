"""Gemma 3, its text model (Gemma team 2025): five layers with a window to one without, of two bases."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families import _gemma, _llama
from gptkit.interop.families._gemma import layouts
from gptkit.interop.families._llama import IGNORED
from gptkit.interop.families._shared import rope_parameters
from gptkit.interop.fields import Fields

__all__ = ["ARCHITECTURE", "IGNORED", "SILENT", "layouts", "read", "write"]

ARCHITECTURE = "Gemma3ForCausalLM"
SILENT = {
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 131072,
    "num_key_value_heads": 4,
}
_LOCAL, _WHOLE = "sliding_attention", "full_attention"


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config; the whole layers' positions are the model's, the others' their own."""
    local, whole = _ropes(fields)
    if local.get("rope_type", "default") != "default" or set(local) - {"rope_type", "rope_theta"}:
        fields.refuse("rope_parameters", "layers with a window can have no scaled positions here")
    fields.only("attn_logit_softcapping", None)
    fields.take("_sliding_window_pattern", None)  # written, and not read again
    every, window = fields.whole("sliding_window_pattern", 6), fields.take("sliding_window", 4096)
    eps = fields.number("rms_norm_eps", 1e-6)
    attention = {"name": "qk_norm", "per_head": True, "offset": 1.0, "eps": eps}
    fields.config = {**fields.config, "rope_parameters": whole, "rope_scaling": None}
    section = _gemma.read(fields, attention, eps)
    slides = _llama.types_of(fields, [(i + 1) % every != 0 for i in range(section["n_layers"])])
    own = {
        "mask": {"causal": {}, "sliding_window": {"window": window}},
        "position": {"name": "rotary", "base": float(local["rope_theta"])},
    }
    return {**section, "layers": {str(i): own for i, slid in enumerate(slides) if slid}}


def _ropes(fields: Fields) -> tuple[dict[str, Any], dict[str, Any]]:
    """What tells the positions of layers with a window and of the others, from newer fields and older ones."""
    told, plain = dict(fields.take("rope_parameters", None) or {}), {"rope_type": "default"}
    if set(told) - {_LOCAL, _WHOLE}:
        fields.refuse("rope_parameters", f"only {_LOCAL} and {_WHOLE}, each with its own, can be held")
    local = {"rope_theta": fields.take("rope_local_base_freq", 10000.0), **(told.get(_LOCAL) or plain)}
    whole = {"rope_theta": fields.take("rope_theta", 1000000.0), **(told.get(_WHOLE) or plain)}
    return local, {**whole, **(fields.take("rope_scaling", None) or {})}


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    window, slides = _llama.window_of(section)
    positions = [changes["position"] for changes in section["layers"].values() if "position" in changes]
    local = positions[0] if positions else {"name": "rotary", "base": section["position"]["base"]}
    context = section["context_length"]
    return {
        **_gemma.write(section), "sliding_window": window or 4096, "layer_types": _gemma.types(slides),
        "rope_parameters": {
            _LOCAL: {"rope_type": "default", "rope_theta": local["base"]},
            _WHOLE: rope_parameters(section["position"], context),
        },
    }  # fmt: skip
