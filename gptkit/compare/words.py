"""What a report says in words: the question, the budget, and how to repeat it."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Mapping
from typing import Any

from gptkit.compare import series
from gptkit.compare.results import Results
from gptkit.compare.statistics import Comparison
from gptkit.compare.tables import clean, scaled
from gptkit.numbers import counted

_MOST_NAMED = 8
_PAYS = 1.5  # times less variance, from which pairing is said to gain
_METRICS = {
    "val_loss": "validation loss",
    "val_bits_per_byte": "validation loss",
    "train_loss": "training loss",
    "best_val_loss": "best validation loss",
}
_AMOUNTS = {"tokens": "tokens", "flops": "FLOPs", "seconds": "seconds"}


def title(results: Results) -> str:
    """What was compared: `position: rotary, learned`; of several keys how many variants, whose names are long."""
    if len(results.varied) > 1:
        return f"{clean(' × '.join(results.varied))}: {counted(len(results.labels), 'variant')}"
    named = [clean(label) for label in results.labels[:_MOST_NAMED]]
    more = len(results.labels) - len(named)
    rest = f" and {more} more" if more > 0 else ""
    return f"{clean(' × '.join(results.varied) or 'runs')}: {', '.join(named)}{rest}"


def question(results: Results, comparison: Comparison) -> str:
    """The question in a sentence or two."""
    keys = " and ".join(clean(key) for key in results.varied) or "the runs"
    variants, seeds = len(results.labels), len(results.seeds)
    ended = sum(run.status == "finished" for run in results.runs)
    told = [f"Which {keys} gives the lowest {metric(comparison).replace(', ', ' (')})?"]
    told.append(
        f"{counted(variants, 'variant')}, {counted(seeds, 'seed')}: {counted(len(results.runs), 'run')}"
        f"{', all finished' if ended == len(results.runs) else f', of which {ended:,} finished'}."
    )
    told += [line for line in (budget(results), matched(results)) if line]
    if comparison.baseline is not None:
        told.append(f"The baseline is {clean(comparison.baseline)}.")
    return " ".join(told)


def metric(comparison: Comparison) -> str:
    """What variants are compared by, with its unit: `validation loss, nats`."""
    return f"{_METRICS.get(comparison.metric, clean(comparison.metric))}, {clean(comparison.unit)}"


def budget(results: Results) -> str:
    """What each run was given."""
    asked = results.sweep.get("budget")
    if isinstance(asked, Mapping) and asked.get("kind") in _AMOUNTS:
        return f"Budget of each run: {scaled(series.number(asked.get('value')))} {_AMOUNTS[asked['kind']]}."
    used = {series.number(run.result.get("tokens")) for run in results.runs if run.status == "finished"}
    used = {value for value in used if math.isfinite(value)}
    if not used:
        return "The budget is not told."
    if len(used) == 1:
        return f"Each run was trained on {scaled(used.pop())} tokens."
    return f"Runs were trained on {scaled(min(used))} to {scaled(max(used))} tokens."


def matched(results: Results) -> str:
    """How nearly parameters were made equal, and by which width; empty where that was not asked for."""
    held = results.sweep.get("match")
    variants = held.get("variants") if isinstance(held, Mapping) else None
    if not isinstance(held, Mapping) or not isinstance(variants, Mapping):
        return ""
    told = []
    for label, found in list(variants.items())[:_MOST_NAMED]:
        if isinstance(found, Mapping):
            width = found.get("d_ff")
            by = f"by model.d_ff={width}" if width is not None else "as it is"
            told.append(f"{clean(label)} {by} ({series.number(found.get('difference')):+.2%})")
    more = f" and {len(variants) - _MOST_NAMED} more" if len(variants) > _MOST_NAMED else ""
    return f"Matched to {series.number(held.get('parameters')):,.0f} parameters: {', '.join(told)}{more}."


def command(results: Results) -> str:
    """The command line that makes the sweep again, each word quoted for a shell."""
    return " ".join(["gptkit compare", *(shlex.quote(clean(word)) for word in results.command)])


def versions(results: Results) -> list[tuple[str, str]]:
    """What it was made with, by name."""
    told: list[tuple[str, str]] = [("folder", str(results.folder))]
    if results.sweep.get("created"):
        told.append(("made", str(results.sweep["created"])))
    held = results.sweep.get("versions")
    if isinstance(held, Mapping):
        told += [(str(name), str(version)) for name, version in held.items() if version]
    git: Any = results.sweep.get("git")
    if isinstance(git, Mapping) and git.get("commit"):
        told.append(("git", f"{git['commit']}{' with changes' if git.get('dirty') else ''}"))
    return [(clean(name), clean(value)) for name, value in told]


def pairing(comparison: Comparison) -> str:
    """How much pairing by seed gains; empty where it cannot be told."""
    gains = sorted(d.pairing_pays for d in comparison.differences if math.isfinite(d.pairing_pays))
    if not gains:
        return ""
    span = f", {gains[0]:.3g} to {gains[-1]:.3g}" if len(gains) > 1 else ""
    middle, told = statistics.median(gains), f"(the median of {counted(len(gains), 'pair')}{span})"
    if middle < _PAYS:
        return (
            f"Pairing by seed gains little here: the variance of an unpaired difference is {middle:.3g} × that of a "
            f"paired one {told}. What one seed does to one variant says little of what it does to another."
        )
    return f"Pairing by seed makes the variance of a difference {middle:.3g} × smaller {told}."


def failures(results: Results) -> list[tuple[str, str]]:
    """Runs that did not end well: which one, and its last lines."""
    return [
        (f"{clean(run.label)}, seed {run.seed}: {clean(run.status)}", run.error)
        for run in results.runs
        if run.status != "finished"
    ]


def lines_of(text: str) -> str:
    """The lines of a log without control characters."""
    return "\n".join(clean(line.expandtabs(4)) for line in text.splitlines())
