"""How each trial learned: the loss while it was trained, a picture for each variant and a line for each value tried."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gptkit.compare import series
from gptkit.compare.results import Results, Trained
from gptkit.compare.series import Band
from gptkit.compare.spaces import Tuning
from gptkit.compare.trials import tuning_of

if TYPE_CHECKING:
    from gptkit.compare.ink import Plot

MOST_TRIALS = 16  # lines of one picture
_KINDS = {"val_loss": "validation loss", "val_bits_per_byte": "validation loss", "loss": "training loss"}


@dataclass(frozen=True)
class Tried:
    """What one variant tried, with the same values on every seed of the trials.

    Attributes:
        name: the values: `3e-4`, or `3e-4, 0.1` where several keys are tuned.
        trials: one for each seed.
        band: their loss by tokens; None where there are fewer than two values of it.
        best: whether the reported runs took it.
    """

    name: str
    trials: Sequence[Trained]
    band: Band | None
    best: bool

    @property
    def cut(self) -> str:
        """Why it went no further: `pruned`, `failed`, ...; empty where all its trials finished."""
        return " and ".join(sorted({trial.status for trial in self.trials} - {"finished"}))

    @property
    def end(self) -> float:
        """The last loss that is known of it."""
        return self.band.mean[-1] if self.band else math.inf


def plots(results: Results, labels: Sequence[str]) -> Iterator[tuple[str, Plot]]:
    """A picture for each variant, all with the same axes and the same colour for the same value.

    Args:
        results: the sweep.
        labels: the variants that are drawn.
    """
    tuning = tuning_of(results.sweep)
    if tuning is None:
        return
    from gptkit.compare.canvas import Canvas, Frame

    key = _key(results, tuning)
    found = {label: drawn(tried(results, label, tuning, key)) for label in labels}
    bands = [one.band for held in found.values() for one in held if one.band]
    if not bands:
        return
    shades = _shades([one for held in found.values() for one in held], tuning.keys[0])
    low, high = _limits(bands)
    unit = "bits per byte" if key == "val_bits_per_byte" else "nats per token"
    frame = Frame("tokens", f"{_KINDS[key]}, {unit}", log_up=low > 0 and high >= 10 * low, limits=(low, high))
    for number, (label, held) in enumerate(found.items()):
        lines = {f"{one.name}{', best' if one.best else ''}": one for one in held}
        if lines:
            canvas = Canvas(list(lines), {name: shades[one.name] for name, one in lines.items()})
            told = {name: one.band for name, one in lines.items() if one.band}
            stops = {name: one.cut for name, one in lines.items() if one.cut}
            yield f"tuning-curve-{number:02d}", canvas.lines(f"{label}: each trial", told, frame, stops)


def notes(results: Results, labels: Sequence[str]) -> list[str]:
    """How to read the pictures, and which trials they lack; nothing where there is none."""
    tuning = tuning_of(results.sweep)
    if tuning is None:
        return []
    key = _key(results, tuning)
    found = {label: tried(results, label, tuning, key) for label in labels}
    shown = {label: drawn(held) for label, held in found.items()}
    if not any(shown.values()):
        return []
    told = [
        f"Each trial's {_KINDS[key]} while it was trained; the stronger the colour, the greater {tuning.keys[0]}. "
        "A cross ends the line of a trial that did not finish; one that ended above where it began may leave the frame."
    ]
    if len(tuning.keys) > 1:
        told.append(f"Lines are named by {' and '.join(tuning.keys)}, in this order.")
    without = [
        f"{label} {one.name} ({one.cut or 'finished'})"
        for label, held in found.items()
        for one in held
        if one.band is None
    ]
    if without:
        told.append(f"Without a curve, for fewer than two losses are known: {'; '.join(without)}.")
    if any(len([one for one in held if one.band]) > MOST_TRIALS for held in found.values()):
        told.append(f"Of each variant the {MOST_TRIALS} trials with the lowest last loss are drawn.")
    return told


def tried(results: Results, label: str, tuning: Tuning, key: str) -> list[Tried]:
    """All that a variant tried, in order of the values where they are numbers.

    Args:
        results: the sweep.
        label: the variant.
        tuning: what was tuned.
        key: of the loss in a row of metrics.
    """
    groups: dict[tuple[str, ...], list[Trained]] = {}
    for trial in results.trials:
        if trial.label == label:
            groups.setdefault(tuple(trial.point.tuned.get(k, "?") for k in tuning.keys), []).append(trial)
    chosen = results.tuned.get(label)
    return [
        Tried(
            ", ".join(values),
            trials,
            series.curve(trials, key, "tokens"),
            bool(chosen) and dict(zip(tuning.keys, values, strict=True)) == chosen,
        )
        for values, trials in sorted(groups.items(), key=lambda group: [_order(v) for v in group[0]])
    ]


def drawn(held: Sequence[Tried]) -> list[Tried]:
    """Those that have a curve; of many the ones with the lowest last loss."""
    lines = [one for one in held if one.band]
    kept = sorted(lines, key=lambda one: one.end)[:MOST_TRIALS]
    return [one for one in lines if one in kept]


def _key(results: Results, tuning: Tuning) -> str:
    """The loss that trials are judged by; that of training where they were validated once alone."""
    validated = any(series.curve([trial], tuning.metric, "tokens") for trial in results.trials)
    return tuning.metric if validated else "loss"


def _order(value: str) -> tuple[float, str]:
    """Numbers by their size, before words."""
    try:
        return float(value), ""
    except ValueError:
        return math.inf, value


def _shades(held: Sequence[Tried], key: str) -> Mapping[str, str]:
    """A colour of the sequence for each name, by the rank of the first key's value among all variants'."""
    from gptkit.compare.ink import SEQUENCE

    values = {one.name: str(one.trials[0].point.tuned.get(key)) for one in held}
    ranked = sorted(set(values.values()), key=_order)
    steps = (len(SEQUENCE) - 1) / max(1, len(ranked) - 1)
    return {name: SEQUENCE[round(ranked.index(value) * steps)][0] for name, value in values.items()}


def _limits(bands: Sequence[Band]) -> tuple[float, float]:
    """From the lowest loss to the highest of any trial that learned, but for its first quarter."""
    learned = [band for band in bands if band.mean[-1] < band.mean[0]] or bands
    later = [
        mean
        for band in learned
        for x, mean in zip(band.x, band.mean, strict=True)
        if x >= band.x[0] + 0.25 * (band.x[-1] - band.x[0])
    ]
    return min(later), max(later)
