"""SmolLM 3 (Hugging Face 2025): Llama's composition, and no positions in every fourth layer."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families import _llama
from gptkit.interop.families._llama import IGNORED, layouts
from gptkit.interop.fields import Fields

__all__ = ["ARCHITECTURE", "IGNORED", "SILENT", "layouts", "read", "write"]

ARCHITECTURE = "SmolLM3ForCausalLM"
SILENT = {"max_position_embeddings": 32768, "num_key_value_heads": 4, "rope_theta": 2000000.0}


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    every, turned = fields.take("no_rope_layer_interval", 4), fields.take("no_rope_layers", None)
    window, used = fields.take("sliding_window", None), fields.take("use_sliding_window", False)
    fields.take("max_window_layers", None)  # of windows, which no layer may have
    attention = {"name": "grouped_query", "bias": bool(fields.take("attention_bias", False))}
    mlp_bias = bool(fields.take("mlp_bias", False))
    section = _llama.read(fields, attention=attention, mlp_bias=mlp_bias, tied=True)
    count = section["n_layers"]
    turned = turned if turned is not None else [int((i + 1) % every != 0) for i in range(count)]
    if any(_llama.types_of(fields, [False] * count)) or (used and window):
        fields.refuse("use_sliding_window", "only whole attention can be held")
    section["layers"] = {str(i): {"position": {"name": "none"}} for i in range(count) if not turned[i]}
    return section


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    count = section["n_layers"]
    still = {
        int(i) for i, changes in section["layers"].items() if changes.get("position") == {"name": "none"}
    }
    return {
        **_llama.write(section, head_dim=False), "rms_norm_eps": section["norm"]["eps"],
        "attention_bias": section["attention"]["bias"], "mlp_bias": section["feed_forward"]["bias"],
        "no_rope_layers": [int(i not in still) for i in range(count)], "use_sliding_window": False,
        "layer_types": ["full_attention"] * count,
    }  # fmt: skip
