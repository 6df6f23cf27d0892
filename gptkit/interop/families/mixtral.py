"""Mixtral (Jiang et al. 2024): Mistral's composition, with eight experts in place of each network."""

from __future__ import annotations

from typing import Any

from gptkit.errors import UserError
from gptkit.interop.families import _experts, _llama
from gptkit.interop.families._llama import IGNORED
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout

__all__ = ["ARCHITECTURE", "IGNORED", "SILENT", "layouts", "read", "write"]

ARCHITECTURE = "MixtralForCausalLM"
SILENT = {
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000.0,
}


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    fields.only("router_jitter_noise", 0.0)
    window = fields.take("sliding_window", None)
    network = _experts.read(fields, "num_local_experts", "intermediate_size")
    section = _llama.read(fields, attention={"name": "grouped_query", "bias": False})
    return _llama.windowed({**section, "feed_forward": network}, window, [True] * section["n_layers"])


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    node, (window, _) = section["feed_forward"], _llama.window_of(section)
    if node["name"] != "mixture_of_experts":
        raise UserError(f"its feed-forward network is {node['name']!r}, not a mixture of experts")
    plain = _llama.write({**section, "feed_forward": {"name": "swiglu"}})
    return {
        **plain, **_experts.write(node, "num_local_experts", "intermediate_size"),
        "rms_norm_eps": section["norm"]["eps"], "sliding_window": window,
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""

    def network(part: dict[str, Any], ours: str, theirs: str) -> dict[str, Layout]:
        saved = theirs.replace(".mlp", ".block_sparse_moe")
        return _experts.layouts(part, ours, theirs, in_files=saved, names=("w1", "w3", "w2"))

    return _llama.layouts(section, network=network)
