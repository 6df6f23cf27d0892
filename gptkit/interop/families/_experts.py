"""Mixtures of experts, as Mixtral, Qwen and DeepSeek write them."""

from __future__ import annotations

from typing import Any

from gptkit.interop.families._llama import network_layouts
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Experts, Layout, Same, Stacked

NAMES = ("gate_proj", "up_proj", "down_proj")


def read(fields: Fields, count: str, width: str, **said: Any) -> dict[str, Any]:
    """The feed-forward part of a config.

    Args:
        fields: the config's.
        count: the field that tells how many experts there are.
        width: the field that tells how wide one is.
        said: options that the family fixes.
    """
    active = fields.whole("num_experts_per_tok", 2)
    rate = fields.number("router_aux_loss_coef", 0.001) * active  # theirs counts every expert of a token
    fields.only("hidden_act", "silu", "swish")
    return {
        "name": "mixture_of_experts", "n_experts": fields.whole(count), "n_active": active,
        "d_expert": fields.whole(width), "balance_rate": rate, **said,
    }  # fmt: skip


def write(node: dict[str, Any], count: str, width: str) -> dict[str, Any]:
    """The fields of a part."""
    rate = 0.01 if node["balance_rate"] is None else node["balance_rate"]
    return {
        count: node["n_experts"], width: node["d_expert"], "num_experts_per_tok": node["n_active"],
        "router_aux_loss_coef": rate / node["n_active"], "hidden_act": "silu",
    }  # fmt: skip


def layouts(
    part: dict[str, Any],
    ours: str,
    theirs: str,
    *,
    in_files: str = "",
    names: tuple[str, str, str] = NAMES,
    preference: str = "",
    shared: str = "",
) -> dict[str, Layout]:
    """One layer's router and experts, or its plain network where it has no experts.

    Args:
        part: the section as it is for this layer.
        ours, theirs: names that all others begin with.
        in_files: what `theirs` is in files, where that differs from a model in memory.
        names: of an expert's gate, its other map, and the map back, in files.
        preference: their name of the bias that balances.
        shared: their name of the network that every token meets.
    """
    node, saved = part["feed_forward"], in_files or theirs
    if node["name"] != "mixture_of_experts":
        return network_layouts(part, ours, theirs)
    gate, up, down = (f"{saved}.experts.{{}}.{name}.weight" for name in names)
    count = node["n_experts"]
    found: dict[str, Layout] = {
        f"{ours}.router.map.weight": Same(f"{saved}.gate.weight", once=f"{theirs}.gate.weight"),
        f"{ours}.experts.gate_up.weight": Experts((gate, up), count, f"{theirs}.experts.gate_up_proj"),
        f"{ours}.experts.down.weight": Experts((down,), count, f"{theirs}.experts.down_proj"),
    }
    if node["balance"] == "bias":
        found[f"{ours}.router.preference"] = Same(f"{theirs}.{preference}")
    if node["d_shared"]:
        both = tuple(f"{theirs}.{shared}.{name}.weight" for name in NAMES[:2])
        found[f"{ours}.shared.gate_up.weight"] = Stacked(both, (node["d_shared"],) * 2)
        found[f"{ours}.shared.down.weight"] = Same(f"{theirs}.{shared}.down_proj.weight")
    return found
