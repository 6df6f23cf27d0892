"""What many families say alike: activations, rotary positions, the parts every section names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gptkit.errors import UserError
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout, Same

ACTIVATIONS = {
    "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu": "gelu",
    "relu": "relu", "silu": "silu", "swish": "silu", "relu2": "relu_squared",
}  # fmt: skip
THEIRS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "silu": "silu", "relu_squared": "relu2"}
BASE = 10000.0


def activation(fields: Fields, name: str, default: str) -> str:
    """Our name of an activation."""
    value = fields.take(name, default)
    if value not in ACTIVATIONS:
        fields.refuse(name, f"known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS.get(value, "gelu")


def rotary(
    fields: Fields,
    *,
    fraction: float | None = None,
    interleaved: bool = False,
    context: int = 0,
    names: tuple[str, str] = ("rope_theta", "partial_rotary_factor"),
) -> dict[str, Any]:
    """The position part of `rope_parameters`, or of the fields that came before it.

    Args:
        fields: the config's.
        fraction: of a head that turns, where the file is silent; left out in families whose heads turn whole.
        interleaved: pairs are neighbours.
        context: positions that the model was made for.
        names: of the fields that told the base and the fraction before.
    """
    name, rope = told_rope(fields)
    base, share = fields.take(names[0], BASE), fields.take(names[1], 1.0 if fraction is None else fraction)
    share = float(rope.pop("partial_rotary_factor", share))
    if fraction is None and share != 1.0:
        fields.problems.append(f"partial_rotary_factor={share!r}: this family turns whole heads")
    node = {
        "base": float(rope.pop("rope_theta", base)),
        "fraction": share,
        "interleaved": interleaved,
    }
    kind = rope.pop("rope_type", rope.pop("type", "default"))
    rope.pop("type", None)
    made = _scaled(str(kind), rope, context)
    if made is None:
        fields.problems.append(f"rope_type={kind!r} is not known")
        return {"name": "rotary", **node}
    if rope:
        fields.problems.append(f"{name} holds {', '.join(sorted(rope))}, not known for {kind!r}")
    return {**made, **node}


def told_rope(fields: Fields) -> tuple[str, dict[str, Any]]:
    """The field that tells of rotary positions, and what it says; as in transformers, the older one goes first."""
    new, old = fields.take("rope_parameters", None), fields.take("rope_scaling", None)
    new = fields.silent.get("rope_parameters") if new is None else new
    return ("rope_scaling", dict(old)) if old else ("rope_parameters", dict(new or {}))


def _scaled(kind: str, rope: dict[str, Any], context: int) -> dict[str, Any] | None:
    """The part that scales rotary positions so; takes what it understands out of `rope`."""
    if kind == "default":
        return {"name": "rotary"}
    if kind in {"linear", "dynamic"}:
        return {"name": f"rotary_{kind}", "factor": float(rope.pop("factor", 1.0))}
    original = rope.pop("original_max_position_embeddings", None)
    if kind == "llama3":
        return {
            "name": "rotary_llama3", "factor": float(rope.pop("factor", 1.0)), "original_context": original or context,
            "low_factor": float(rope.pop("low_freq_factor", 1.0)),
            "high_factor": float(rope.pop("high_freq_factor", 4.0)),
        }  # fmt: skip
    if kind == "yarn":
        factor = rope.pop("factor", None) or context / (original or context)
        return {
            "name": "rotary_yarn", "factor": float(factor), "original_context": original or context,
            "beta_fast": float(rope.pop("beta_fast", None) or 32.0),
            "beta_slow": float(rope.pop("beta_slow", None) or 1.0),
            "strength": rope.pop("attention_factor", None), "truncate": bool(rope.pop("truncate", True)),
        }  # fmt: skip
    if kind == "longrope":
        factor, strength = rope.pop("factor", None), rope.pop("attention_factor", None)
        if strength is None and factor is not None:  # else the contexts tell how much longer texts become
            strength = math.sqrt(1 + math.log(factor) / math.log(original or context)) if factor > 1 else 1.0
        return {
            "name": "rotary_longrope", "short_factors": rope.pop("short_factor", None),
            "long_factors": rope.pop("long_factor", None), "original_context": original or context,
            "by_length": True, "strength": strength,
        }  # fmt: skip
    return None


def rope_parameters(node: Mapping[str, Any], context: int) -> dict[str, Any]:
    """`rope_parameters` of a position part.

    Raises:
        UserError: it is not rotary, or is LongRoPE with what transformers cannot be told.
    """
    if node["name"].split("_")[0] != "rotary":
        raise UserError(f"its positions are {node['name']!r}, not rotary")
    rope: dict[str, Any] = {"rope_theta": node.get("base", BASE)}
    if node.get("fraction", 1.0) != 1.0:
        rope["partial_rotary_factor"] = node["fraction"]
    kind = node["name"].removeprefix("rotary").removeprefix("_") or "default"
    rope["rope_type"] = kind
    if kind in {"linear", "dynamic", "llama3", "yarn"}:
        rope["factor"] = node["factor"]
    if kind in {"llama3", "yarn", "longrope"}:
        rope["original_max_position_embeddings"] = node["original_context"] or context
    if kind == "llama3":
        rope |= {"low_freq_factor": node["low_factor"], "high_freq_factor": node["high_factor"]}
    if kind == "yarn":
        rope |= {key: node[key] for key in ("beta_fast", "beta_slow", "truncate")}
    if kind == "longrope":
        for option in ("short_factors", "long_factors"):
            if node[option] is None:
                raise UserError(
                    f"its {option} is null, where transformers wants a number for each turning pair"
                )
        if not node["by_length"]:
            raise UserError(
                "its by_length is false, where in transformers each text's length chooses the factors"
            )
        rope |= {"short_factor": node["short_factors"], "long_factor": node["long_factors"]}
    if kind in {"yarn", "longrope"} and node.get("strength") is not None:
        rope["attention_factor"] = node["strength"]
    return rope


def norm_layouts(ours: str, theirs: str, *, bias: bool) -> dict[str, Layout]:
    """A norm's weight, and its bias."""
    found: dict[str, Layout] = {f"{ours}.weight": Same(f"{theirs}.weight")}
    if bias:
        found[f"{ours}.bias"] = Same(f"{theirs}.bias")
    return found


def linear_layouts(ours: str, theirs: str, *, bias: bool) -> dict[str, Layout]:
    """A linear map's weight, and its bias."""
    return norm_layouts(ours, theirs, bias=bias)
