"""gpt-oss (OpenAI 2025): sinks, every other layer with a window, experts with a clamped activation."""

from __future__ import annotations

from typing import Any

from gptkit.errors import UserError
from gptkit.interop.families import _experts, _llama
from gptkit.interop.families._llama import IGNORED
from gptkit.interop.families._shared import linear_layouts
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Flat, Interleaved, Layout, Same

__all__ = ["ARCHITECTURE", "IGNORED", "SILENT", "layouts", "read", "write"]

ARCHITECTURE = "GptOssForCausalLM"
SILENT = {
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "num_experts_per_tok": 4,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 150000.0,
    "sliding_window": 128,
    "rope_parameters": {
        "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
        "original_max_position_embeddings": 4096,
    },
}  # fmt: skip


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    fields.only("swiglu_alpha", 1.702)
    fields.only("swiglu_limit", 7.0)
    network = _experts.read(
        fields, "num_local_experts", "intermediate_size", activation="clamped_swiglu", bias=True,
        router_bias=True, score="softmax_of_chosen",
    )  # fmt: skip
    fields.only("experts_per_token", network["n_active"])
    window, bias = fields.take("sliding_window", None), bool(fields.take("attention_bias", True))
    section = _llama.read(fields, attention={"name": "sinks", "bias": bias})
    fields.only("initial_context_length", section["position"].get("original_context"))
    count = section["n_layers"]
    slides = _llama.types_of(fields, [i % 2 == 0 for i in range(count)])
    return _llama.windowed({**section, "feed_forward": network}, window, slides)


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    node, (window, slides) = section["feed_forward"], _llama.window_of(section)
    if node["name"] != "mixture_of_experts" or section["attention"]["name"] != "sinks":
        raise UserError(
            f"its attention is {section['attention']['name']!r} and its feed-forward network {node['name']!r}, "
            "not sinks and a mixture of experts"
        )
    plain = _llama.write({**section, "feed_forward": {"name": "swiglu"}})
    return {
        **plain, **_experts.write(node, "num_local_experts", "intermediate_size"),
        "rms_norm_eps": section["norm"]["eps"], "attention_bias": section["attention"]["bias"],
        "sliding_window": window,
        "layer_types": ["sliding_attention" if slid else "full_attention" for slid in slides],
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""

    def attention(part: dict[str, Any], ours: str, theirs: str) -> dict[str, Layout]:
        return {
            **_llama.attention_layouts(part, ours, theirs), f"{ours}.sinks": Same(f"{theirs}.sinks"),
        }  # fmt: skip

    def network(part: dict[str, Any], ours: str, theirs: str) -> dict[str, Layout]:
        count, experts = part["feed_forward"]["n_experts"], f"{theirs}.experts"
        return {
            **linear_layouts(f"{ours}.router.map", f"{theirs}.router", bias=True),
            f"{ours}.experts.gate_up.weight": Interleaved(f"{experts}.gate_up_proj", count),
            f"{ours}.experts.gate_up.bias": Interleaved(f"{experts}.gate_up_proj_bias", count),
            f"{ours}.experts.down.weight": Same(f"{experts}.down_proj"),
            f"{ours}.experts.down.bias": Flat(f"{experts}.down_proj_bias", count),
        }

    return _llama.layouts(section, attention=attention, network=network)
