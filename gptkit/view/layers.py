"""Layers that are alike, told once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gptkit.model.assemble import PER_LAYER, layers_in

Parts = dict[str, Any]


@dataclass(frozen=True)
class LayerKind:
    """Layers made of the same parts.

    Attributes:
        layers: their numbers, rising.
        parts: the node of each part, as in a config.
    """

    layers: tuple[int, ...]
    parts: Parts


def layer_kinds(section: Mapping[str, Any], n_layers: int) -> list[LayerKind]:
    """The kinds of layers in a model section, the most frequent first.

    Args:
        section: normalised, as `gptkit.schema.normalise` gives it.
        n_layers: how many layers the model has.
    """
    found: list[tuple[Parts, list[int]]] = []
    for index in range(n_layers):
        parts = {name: section[name] for name in PER_LAYER}
        for where, changes in (section.get("layers") or {}).items():
            if index in layers_in(where, n_layers):
                parts.update(changes)
        for known, layers in found:
            if known == parts:
                layers.append(index)
                break
        else:
            found.append((parts, [index]))
    kinds = [LayerKind(tuple(layers), parts) for parts, layers in found]
    return sorted(kinds, key=lambda kind: -len(kind.layers))


def named(layers: Sequence[int]) -> str:
    """Layer numbers in short: `0–11`, `3, 7, … 47`, `0–2, 4–6`."""
    steps = {b - a for a, b in pairwise(layers)}
    if len(layers) > 3 and len(steps) == 1 and steps != {1}:
        return f"{layers[0]}, {layers[1]}, … {layers[-1]}"
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    texts = [f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return ", ".join(texts if len(texts) <= 6 else [*texts[:4], "…", texts[-1]])
