"""How many answers were right, by length: what runs on a corpus of examples have to tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gptkit.compare import series
from gptkit.compare.results import Results, Trained
from gptkit.compare.series import Band
from gptkit.compare.tables import Cell, Table

if TYPE_CHECKING:
    from gptkit.compare.canvas import Canvas
    from gptkit.compare.ink import Plot

KINDS = {"accuracy": "Whole answers that are right", "token_accuracy": "Tokens of answers that are right"}


def plots(results: Results, canvas: Canvas, labels: Sequence[str]) -> Iterator[tuple[str, Plot]]:
    """Accuracy by length, of whole answers and of their tokens."""
    from gptkit.compare.canvas import Frame

    runs = {label: series.runs_of(results, label) for label in labels}
    refused = {label: refusals(held) for label, held in runs.items()}
    limit = trained_up_to(results)
    across = f"length{f', trained up to {limit}' if limit else ''}"
    for kind, title in KINDS.items():
        found = {label: by_length(held, kind) for label, held in runs.items()}
        bands = {label: band for label, band in found.items() if band is not None}
        if bands:
            stops = series.stops(bands, refused)
            ticks = sorted({x for band in bands.values() for x in band.x})
            frame = Frame(across, "share that is right", log=True, limits=(0.0, 1.0), ticks=ticks)
            yield f"probe-{kind.replace('_', '-')}", canvas.lines(title, bands, frame, stops)


def table(results: Results, labels: Sequence[str]) -> Table | None:
    """Accuracy by length for each variant, that of tokens below it; None where no run has examples."""
    told = {label: series.runs_of(results, label) for label in labels}
    lengths = sorted({row["length"] for runs in told.values() for row in _rows(runs)})
    if not lengths:
        return None
    seen = {row["length"] for runs in told.values() for row in _rows(runs) if row.get("trained")}
    rows, reasons = [], []
    for label, runs in told.items():
        refused = refusals(runs)
        whole, tokens = (_means(by_length(runs, kind)) for kind in KINDS)
        cells = [Cell(label)]
        for length in lengths:
            if length in refused and length not in whole:
                cells.append(Cell("refuses", marked=True))
            else:
                cells.append(Cell(_share(whole.get(length)), f"tokens {_share(tokens.get(length))}"))
        rows.append(cells)
        if refused:
            reasons.append(f"{label} refuses from {min(refused)} on: {refused[min(refused)]}")
    heads = [f"{length}{'' if length in seen else ' (unseen)'}" for length in lengths]
    note = (
        "Answers that greedy decoding gives whole, by length; below it their tokens, each after right ones."
    )
    return Table(["variant", *heads], rows, [note, *reasons])


def by_length(runs: Sequence[Trained], kind: str) -> Band | None:
    """A share by length: mean and spread over the seeds of one variant.

    Args:
        runs: the variant's.
        kind: `accuracy` or `token_accuracy`.
    """
    held: dict[int, list[float]] = {}
    for row in _rows(runs):
        share = series.number(row.get(kind))
        if math.isfinite(share):
            held.setdefault(row["length"], []).append(share)
    if not held:
        return None
    x = sorted(held)
    return Band(
        [float(n) for n in x], [series.mean_of(held[n]) for n in x], [series.spread_of(held[n]) for n in x]
    )


def refusals(runs: Sequence[Trained]) -> dict[int, str]:
    """Why lengths were not read, by length."""
    return {row["length"]: str(row["refused"]) for row in _rows(runs) if row.get("refused")}


def trained_up_to(results: Results) -> int | None:
    """The greatest length asked about that was trained on as well."""
    return max((row["length"] for row in _rows(results.runs) if row.get("trained")), default=None)


def _rows(runs: Sequence[Trained]) -> list[Mapping[str, Any]]:
    """The splits of one length; what came from a stranger's folder and is none is left out."""
    found = []
    for run in runs:
        told = run.result.get("splits")
        rows = told.values() if isinstance(told, Mapping) else ()
        found += [row for row in rows if isinstance(row, Mapping) and _is_length(row.get("length"))]
    return found


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _means(band: Band | None) -> dict[int, float]:
    return {int(x): mean for x, mean in zip(band.x, band.mean, strict=True)} if band else {}


def _share(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"
