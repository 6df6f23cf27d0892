"""Qwen 3 with experts (Yang et al. 2025): Qwen 3, with a mixture of experts in some or all layers."""

from __future__ import annotations

from typing import Any

from gptkit.errors import UserError
from gptkit.interop.families import _experts, _llama, qwen2, qwen3
from gptkit.interop.families._llama import IGNORED
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout

__all__ = ["ARCHITECTURE", "IGNORED", "SILENT", "layouts", "read", "write"]

ARCHITECTURE = "Qwen3MoeForCausalLM"
SILENT = {
    "max_position_embeddings": 32768,
    "num_key_value_heads": 4,
    "num_experts_per_tok": 8,
    "sliding_window": 4096,
}


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    every, plain = fields.whole("decoder_sparse_step", 1), fields.take("mlp_only_layers", None) or []
    count = "num_experts" if "num_experts" in fields.config else "num_local_experts"
    renormalise = bool(fields.take("norm_topk_prob", False))
    experts = _experts.read(fields, count, "moe_intermediate_size", renormalise=renormalise)
    section = qwen3.read(fields)
    dense = [i in plain or (i + 1) % every != 0 for i in range(section["n_layers"])]
    if all(dense):
        fields.refuse("mlp_only_layers", "no layer has experts: it is a qwen3")
    layers = dict(section.get("layers", {}))
    for i, is_dense in enumerate(dense):
        if is_dense:
            layers[str(i)] = {**layers.get(str(i), {}), "feed_forward": section["feed_forward"]}
    return {**section, "feed_forward": experts, "layers": layers}


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    node = section["feed_forward"]
    if node["name"] != "mixture_of_experts":
        raise UserError(f"its feed-forward network is {node['name']!r}, not a mixture of experts")
    dense = [int(i) for i, own in section["layers"].items() if "feed_forward" in own]
    plain = {**section, "feed_forward": {"name": "swiglu"}}
    return {
        **_llama.write(plain), **qwen2.written_windows(section), "rms_norm_eps": section["norm"]["eps"],
        "attention_bias": section["attention"]["bias"], "decoder_sparse_step": 1, "mlp_only_layers": sorted(dense),
        "norm_topk_prob": node["renormalise"], **_experts.write(node, "num_experts", "moe_intermediate_size"),
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    return _llama.layouts(section, network=_experts.layouts)
