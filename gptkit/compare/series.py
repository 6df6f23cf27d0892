"""What several seeds of one variant measured, as one line with its spread.

Measures may come from a stranger's folder: what is no number counts as missing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gptkit.compare.results import Results, Trained

GRID = 80  # points of a curve whose seeds were not measured at the same places
COSTS = (
    "parameters",
    "flops_per_token",
    "milliseconds_per_step",
    "tokens_per_second",
    "peak_bytes",
    "decode_tokens_per_second",
    "cache_bytes_per_token",
)


@dataclass(frozen=True)
class Band:
    """A mean over seeds, and one standard deviation to either side; all of one length."""

    x: Sequence[float]
    mean: Sequence[float]
    sd: Sequence[float]


def threads(runs: Iterable[Trained]) -> list[int]:
    """How many CPU threads finished runs had, each number once; two or more leave times incomparable."""
    return sorted({count for run in runs if run.status == "finished" for count in run.threads})


def runs_of(results: Results, label: str) -> list[Trained]:
    """The finished runs of a variant, by seed."""
    return [run for _, run in sorted(results.finished(label).items())]


def order(results: Results, ranked: Iterable[str]) -> list[str]:
    """All variants: the best first, then those without a score."""
    return list(dict.fromkeys([*ranked, *results.labels]))


def number(value: object) -> float:
    """A number, or NaN for anything else."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def numbers(value: object) -> list[float]:
    """A list of numbers; empty for anything else."""
    return [number(entry) for entry in value] if isinstance(value, (list, tuple)) else []


def mean_of(values: Iterable[float]) -> float:
    """Of those that are finite; NaN where there are none."""
    held = [value for value in values if math.isfinite(value)]
    return math.fsum(held) / len(held) if held else math.nan


def spread_of(values: Iterable[float]) -> float:
    """Standard deviation (n - 1) of those that are finite; 0 below two."""
    held = [value for value in values if math.isfinite(value)]
    if len(held) < 2:
        return 0.0
    middle = mean_of(held)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in held) / (len(held) - 1))


def part(run: Trained, name: str) -> Mapping[str, Any]:
    """One part of a run's measures; empty where it is missing."""
    found = run.measures.get(name)
    return found if isinstance(found, Mapping) else {}


def curve(runs: Sequence[Trained], key: str, across: str) -> Band | None:
    """A metric while training went on.

    Args:
        runs: of one variant.
        key: of a row, such as `val_loss`.
        across: `tokens`, `flops` or `seconds`.
    """
    lines = [_line(run, key, across) for run in runs]
    return _joined([line for line in lines if len(line) > 1])


def _line(run: Trained, key: str, across: str) -> list[tuple[float, float]]:
    flops, tokens = (number(run.result.get(name)) for name in ("flops", "tokens"))
    each = flops / tokens if across == "flops" and tokens > 0 else 1.0
    name = "tokens" if across == "flops" else across
    if across == "flops" and not math.isfinite(each):
        return []
    pairs = ((each * number(row.get(name)), number(row.get(key))) for row in run.rows if key in row)
    return sorted((x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y))


def positions(runs: Sequence[Trained]) -> Band | None:
    """Loss by place within the context; x counts from 1, in the middle of each bin."""
    lines = []
    for run in runs:
        told = part(run, "loss_by_position")
        edges, losses = numbers(told.get("positions")), numbers(told.get("loss"))
        if len(edges) == len(losses) + 1:
            edges = [(low + high - 1) / 2 for low, high in itertools.pairwise(edges)]
        pairs = zip(edges, losses, strict=False)
        lines.append([(x + 1, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)])
    return _joined([line for line in lines if len(line) > 1])


def attention(runs: Sequence[Trained]) -> list[Band | None]:
    """Mean weight by distance, for each layer."""
    told = [part(run, "attention_by_distance") for run in runs]
    layers = [one.get("layers") for one in told]
    lists = [entry if isinstance(entry, list) else [] for entry in layers]
    found: list[Band | None] = []
    for layer in range(max(map(len, lists), default=0)):
        lines = []
        for one, held in zip(told, lists, strict=True):
            weights = numbers(held[layer]) if layer < len(held) else []
            pairs = zip(numbers(one.get("distances")), weights, strict=False)
            lines.append([(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)])
        found.append(_joined([line for line in lines if len(line) > 1]))
    return found


def lengths(runs: Sequence[Trained], key: str) -> Band | None:
    """Loss by multiples of the trained context; refused ones are left out.

    Args:
        runs: of one variant.
        key: `non_overlapping`, `sliding` or `early`.
    """
    held: dict[float, list[float]] = {}
    for entry in _lengths(runs):
        factor, loss = number(entry.get("factor")), number(entry.get(key))
        if math.isfinite(factor) and math.isfinite(loss):
            held.setdefault(factor, []).append(loss)
    return _band(sorted(held.items())) if held else None


def scored(runs: Sequence[Trained], key: str) -> set[float]:
    """On how many tokens losses by length are means, each number once.

    Args:
        runs: of any variants.
        key: as of `lengths`.
    """
    told = (number(entry.get(f"{key}_tokens")) for entry in _lengths(runs))
    return {count for count in told if math.isfinite(count)}


def placed(runs: Sequence[Trained]) -> set[float]:
    """On how many tokens the losses by place within the context are means, each number once."""
    told = (math.fsum(numbers(part(run, "loss_by_position").get("count"))) for run in runs)
    return {count for count in told if math.isfinite(count) and count > 0}


def refusals(runs: Sequence[Trained], key: str = "refused") -> dict[float, str]:
    """Why a variant went no further, by factor; `skipped` tells why nobody asked it to."""
    told = ((number(entry.get("factor")), entry.get(key)) for entry in _lengths(runs))
    return {factor: str(why) for factor, why in sorted(told, key=str) if why and math.isfinite(factor)}


def stops(
    bands: Mapping[str, Band], refused: Mapping[str, Collection[float]], unit: str = ""
) -> dict[str, str]:
    """Why lines end early, by variant: what it refused lies beyond what it read.

    Args:
        bands: of each variant that read anything.
        refused: the places that it refused.
        unit: of a place.
    """
    ends = {label: band.x[-1] for label, band in bands.items()}
    return {
        label: f"refuses past {end:g}{unit}"
        for label, end in ends.items()
        if max(refused.get(label, ()), default=end) > end
    }


def _lengths(runs: Sequence[Trained]) -> list[Mapping[str, Any]]:
    held = [run.measures.get("lengths") for run in runs]
    return [entry for one in held if isinstance(one, list) for entry in one if isinstance(entry, Mapping)]


def costs(runs: Sequence[Trained]) -> dict[str, float]:
    """What a variant costs, the mean of its seeds; the result tells what was not measured."""
    return {name: mean_of(_cost(run, name) for run in runs) for name in COSTS}


def _cost(run: Trained, name: str) -> float:
    measured = number(part(run, "cost").get(name))
    if math.isfinite(measured):
        return measured
    tokens, seconds, steps, flops = (
        number(run.result.get(key)) for key in ("tokens", "seconds", "steps", "flops")
    )
    derived: dict[str, Callable[[], float]] = {
        "parameters": lambda: number(run.result.get("parameters")),
        "tokens_per_second": lambda: number(run.result.get("tokens_per_second")),
        "milliseconds_per_step": lambda: 1000 * seconds / steps,
        "flops_per_token": lambda: flops / tokens,
    }
    try:
        return derived[name]() if name in derived else math.nan
    except ZeroDivisionError:
        return math.nan


def _joined(lines: Sequence[Sequence[tuple[float, float]]]) -> Band | None:
    """Lines of several seeds as one, over the stretch that all have."""
    if not lines:
        return None
    places = [tuple(x for x, _ in line) for line in lines]
    if len(set(places)) > 1:
        import numpy as np

        low, high = max(place[0] for place in places), min(place[-1] for place in places)
        if low >= high:
            return None
        grid = np.linspace(low, high, GRID)
        held = [
            np.interp(grid, place, [y for _, y in line]) for place, line in zip(places, lines, strict=True)
        ]
        lines = [list(zip(grid.tolist(), losses.tolist(), strict=True)) for losses in held]
    columns = zip(*lines, strict=True)
    return _band([(column[0][0], [y for _, y in column]) for column in columns])


def _band(columns: Sequence[tuple[float, Sequence[float]]]) -> Band:
    return Band(
        [x for x, _ in columns], [mean_of(ys) for _, ys in columns], [spread_of(ys) for _, ys in columns]
    )
