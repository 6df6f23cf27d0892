"""Rotary positions as llama.cpp is told of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gptkit.interop.fields import Fields
from gptkit.interop.gguf.architectures import Architecture

Value = bool | int | float | str


def rope_keys(fields: Fields, arch: Architecture, head: int, context: int) -> dict[str, Value]:
    """The keys of rotary positions; those of layers with a window may have a base of their own.

    Args:
        fields: the config's; what cannot be told is noted there.
        arch: how llama.cpp computes the family.
        head: numbers of a head that positions may turn.
        context: positions that the model was made for.
    """
    ropes = fields.take("rope_parameters")
    rope, local = dict(ropes.get("full_attention", ropes)), ropes.get("sliding_attention")
    kind, fraction = rope.pop("rope_type", "default"), rope.pop("partial_rotary_factor", 1.0)
    made: dict[str, Value] = {"rope.freq_base": float(rope.pop("rope_theta"))}
    if local is not None:
        made["rope.freq_base_swa"] = float(local["rope_theta"])
        if local.get("rope_type", "default") != "default":
            fields.problems.append("layers with a window have scaled positions")
    if kind not in arch.ropes:
        fields.problems.append(
            f"rope_type={kind!r}: llama.cpp's {arch.name} computes {' or '.join(arch.ropes)}"
        )
    turning = int(head * fraction)
    if turning % 2 or turning < 2 or (turning != head and not arch.partial):
        fields.problems.append(
            f"{turning} of {head} numbers of a head turn, which {arch.name} does not compute"
        )
    made["rope.dimension_count"] = turning
    if kind in {"linear", "yarn"}:
        made |= {"rope.scaling.type": kind, "rope.scaling.factor": float(rope.pop("factor"))}
    original = rope.pop("original_max_position_embeddings", context)
    if kind == "yarn":
        made["rope.scaling.original_context_length"] = original
        made |= _yarn(fields, arch, rope, float(made["rope.scaling.factor"]))
    if kind == "llama3":
        rope = {}  # as frequency factors, beside the weights
    fields.problems += [f"rope_parameters holds {name}" for name in rope]
    return made


def _yarn(fields: Fields, arch: Architecture, rope: dict[str, Any], factor: float) -> dict[str, Value]:
    """What else YaRN takes out of `rope`; latent attention sharpens its scores, and not its queries and keys."""
    made: dict[str, Value] = {}
    strength = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
    if arch.latent:
        sharper, strength = rope.pop("mscale_all_dim", None), 1.0
        if sharper:
            made["rope.scaling.yarn_log_multiplier"] = 0.1 * sharper  # as llama.cpp's own converter has it
        else:
            fields.problems.append(f"no mscale_all_dim: llama.cpp's {arch.name} computes YaRN with one")
    usual = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True, "attention_factor": strength}
    for name, value in usual.items():
        given = rope.pop(name, value)
        if not math.isclose(given, value, rel_tol=1e-6):
            fields.problems.append(f"{name}={given}: llama.cpp reads none, and computes {value}")
    if factor < 1:
        fields.problems.append(f"factor={factor}: llama.cpp computes YaRN of 1 or more")
    return made


def frequency_factors(rope: Mapping[str, Any], head: int) -> list[float]:
    """What each frequency of a head is divided by, where positions are scaled as in Llama 3.1."""
    factor, original = rope["factor"], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    found = []
    for at in range(0, head, 2):
        turns = original * rope["rope_theta"] ** (-at / head) / (2 * math.pi)  # in the first context
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        found.append(1.0 / ((1.0 - kept) / factor + kept))
    return found
