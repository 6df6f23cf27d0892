"""The tables of a report, as cells: the page and the Markdown show the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gptkit.compare import series
from gptkit.compare.results import Results
from gptkit.compare.statistics import Comparison, Difference

MOST_ROWS = 100
HASH = 10  # characters of a shortened hash
_COSTS = {
    "parameters": ("parameters", 0.01),
    "flops_per_token": ("FLOPs per token", 0.01),
    "milliseconds_per_step": ("ms per step", 0.1),
    "tokens_per_second": ("tokens/s", 0.1),
    "peak_bytes": ("peak memory", 0.1),
    "decode_tokens_per_second": ("decoded tokens/s", 0.1),
    "cache_bytes_per_token": ("cache per token", 0.01),
}


@dataclass(frozen=True)
class Cell:
    """One value.

    Attributes:
        text: what it says.
        note: more, in small letters.
        marked: whether it stands out.
    """

    text: str
    note: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells. The first column and those named in `words` hold words, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    words: Sequence[str] = ()


def clean(text: object) -> str:
    """Text of a stranger on one line, without control characters or marks that turn its direction."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\u00b7" for c in str(text))


def shown(value: float, places: int = 4) -> str:
    """A number with so many places; a dash where there is none."""
    if math.isnan(value):
        return "–"
    return f"{value:,.{places}f}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")


def signed(value: float, places: int = 4) -> str:
    """A difference with its sign."""
    return ("+" if value > 0 else "−" if value < 0 else "") + shown(abs(value), places)


def scaled(value: float) -> str:
    """A number in three digits: `950`, `12.3k`, `1.24M`, `3.2T`."""
    if not math.isfinite(value):
        return shown(value)
    for power, unit in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 0.9995 * 10**power:
            return f"{value / 10**power:.3g}{unit}" if abs(value) < 999.5e18 else f"{value:.3g}"
    return f"{value:.3g}"


def size(value: float) -> str:
    """Bytes: `2.0 KiB`, `312 MiB`."""
    if not math.isfinite(value):
        return shown(value)
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if abs(value) >= 1 << power:
            return f"{value / (1 << power):.3g} {unit}"
    return f"{value:.0f} B"


def ranking(comparison: Comparison) -> Table:
    """Variants, the best first."""
    rows = []
    for place, one in enumerate(comparison.ranking, 1):
        low, high = one.interval
        between = "–" if math.isnan(low) else f"{shown(low)} to {shown(high)}"
        cells = [one.label, str(place), shown(one.mean), between, shown(one.sd), str(one.n), one.letters]
        rows.append([Cell(cell) for cell in cells])
    grouped = any(one.letters for one in comparison.ranking)
    header = [
        "variant",
        "rank",
        f"mean, {comparison.unit}",
        "95 % interval",
        "sd over seeds",
        "seeds",
        "group",
    ]
    notes = ["Variants that share a letter of the last column cannot be told apart."] if grouped else []
    if any(d.n_pairs > 1 for d in comparison.differences):
        notes.append(
            "An interval of a mean holds what a seed brings to all variants alike; the paired differences are free "
            "of it, and may tell variants apart whose intervals overlap."
        )
    if not grouped:
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table(header, rows, notes, ("group",))


def differences(comparison: Comparison) -> Table:
    """Each pair, seed by seed."""
    header = [
        "pair",
        f"difference, {comparison.unit}",
        "95 % interval (t)",
        "95 % (bootstrap)",
        "p after Holm",
    ]
    header += ["pairs", "effect d_z", "told apart", "more seeds to settle"]
    rows = []
    for d in comparison.differences[:MOST_ROWS]:
        cells = [f"{d.a} − {d.b}", signed(d.mean), _between(d.interval), _between(d.bootstrap), _p(d.p_holm)]
        cells += [str(d.n_pairs), shown(d.effect, 1).replace("-", "−"), "yes" if d.told_apart else "no"]
        rows.append(
            [
                *map(Cell, cells[:7]),
                Cell("equal" if d.equal else cells[7], marked=d.told_apart),
                Cell(_settles(d)),
            ]
        )
    notes = ["Differences are taken within each seed; below zero the first of the pair is better."]
    if len(comparison.differences) > MOST_ROWS:
        notes.append(f"The first {MOST_ROWS} of {len(comparison.differences):,} pairs; results.json has all.")
    return Table(header, rows, notes, ("told apart",))


def _between(interval: tuple[float, float]) -> str:
    low, high = interval
    return "–" if math.isnan(low) else f"{signed(low)} to {signed(high)}"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _settles(d: Difference) -> str:
    if d.told_apart or (d.equal and d.n_pairs > 1):
        return "–"
    return "unknown" if d.n_pairs < 2 else "over 1,000" if d.more_seeds is None else f"{d.more_seeds:,}"


def lengths(results: Results, labels: Sequence[str]) -> Table | None:
    """Loss by multiples of the trained context, with what refused and why; None where none was measured."""
    rows, factors = [], set()
    refusing: dict[tuple[float, str], list[str]] = {}  # variants, by the first factor and why
    skipping: dict[tuple[float, str], list[str]] = {}
    told: dict[str, tuple[dict[float, float], dict[float, float], Mapping[float, str]]] = {}
    for label in labels:
        runs = series.runs_of(results, label)
        bands = [series.lengths(runs, key) for key in ("non_overlapping", "sliding")]
        plain, sliding = (dict(zip(b.x, b.mean, strict=True)) if b else {} for b in bands)
        refused = series.refusals(runs)
        factors |= {*plain, *sliding, *refused}
        told[label] = plain, sliding, refused
        for first in sorted(refused)[:1]:
            refusing.setdefault((first, refused[first]), []).append(label)
        for skipped in series.refusals(runs, "skipped").items():
            skipping.setdefault(skipped, []).append(label)
    if not factors:
        return None
    factors |= {factor for factor, _ in skipping}
    for label, (plain, sliding, refused) in told.items():
        cells = [Cell(label)]
        for factor in sorted(factors):
            if factor in refused and factor not in plain:
                cells.append(Cell("refuses", marked=True))
            else:
                slid = f"sliding {shown(sliding[factor], 3)}" if factor in sliding else ""
                cells.append(Cell(shown(plain.get(factor, math.nan), 3), slid))
        rows.append(cells)
    notes = [
        "Nats per token with non-overlapping windows, and with a sliding window.",
        *_scored(results, labels),
    ]
    for (first, why), named in refusing.items():
        notes.append(f"{'; '.join(named)} refuse{'s' * (len(named) == 1)} from {first:g} × on: {why}")
    for (factor, why), named in sorted(skipping.items()):
        of = f" with {'; '.join(named)}" if len(named) < len(labels) else ""
        notes.append(f"{factor:g} × was not measured{of}: {why}.")
    return Table(["variant", *(f"{factor:g} ×" for factor in sorted(factors))], rows, notes)


def _scored(results: Results, labels: Sequence[str]) -> list[str]:
    """On how many tokens a run's losses by length are means, in a sentence; none where that was not told."""
    runs = [run for label in labels for run in series.runs_of(results, label)]
    cut, slid, early = (series.scored(runs, key) for key in ("non_overlapping", "sliding", "early"))
    if not cut:
        return []
    starts = f", of which {span(early)} stand within a quarter of the trained context from a window's start"
    return [
        f"Each run is scored on {span({*cut, *slid})} tokens of its evaluation text at each length"
        f"{starts if early else ''}."
    ]


def placed(results: Results, labels: Sequence[str]) -> str:
    """On how many tokens a run's losses by position are means; empty where that was not told."""
    held = series.placed([run for label in labels for run in series.runs_of(results, label)])
    return f"Each run is scored on {span(held)} tokens of its evaluation text." if held else ""


def span(counts: Iterable[float]) -> str:
    """Whole numbers from the least to the greatest: `4,096`, or `4,032 to 4,096`."""
    held = sorted(counts)
    low, high = f"{held[0]:,.0f}", f"{held[-1]:,.0f}"
    return low if low == high else f"{low} to {high}"


def cost(results: Results, labels: Sequence[str]) -> Table | None:
    """What each variant costs; what lies off the middle one is marked."""
    told = {label: series.costs(series.runs_of(results, label)) for label in labels}
    told = {label: held for label, held in told.items() if any(map(math.isfinite, held.values()))}
    names = [name for name in _COSTS if any(math.isfinite(held[name]) for held in told.values())]
    if not names:
        return None
    rows = [[Cell(label)] for label in told]
    for name in names:
        middle = _median([held[name] for held in told.values()])
        for row, held in zip(rows, told.values(), strict=True):
            off = held[name] / middle - 1 if middle else 0.0
            marked = math.isfinite(off) and abs(off) > _COSTS[name][1]
            text = size(held[name]) if "bytes" in name else _plain(name, held[name])
            row.append(Cell(text, f"{signed(100 * off, 1)} %" if marked else "", marked))
    notes = ["Marked: more than 1 % off the middle variant in size, or more than 10 % in time and memory."]
    counts = series.threads(results.runs)
    if len(counts) > 1:
        notes.append(
            f"Times and speeds cannot be compared here: jobs had {' and '.join(map(str, counts))} CPU threads."
        )
    return Table(["variant", *(_COSTS[name][0] for name in names)], rows, notes)


def _plain(name: str, value: float) -> str:
    return f"{value:,.0f}" if name == "parameters" and math.isfinite(value) else scaled(value)


def _median(values: Sequence[float]) -> float:
    held = sorted(value for value in values if math.isfinite(value))
    return held[(len(held) - 1) // 2] if held else math.nan


def hashes(results: Results) -> Table | None:
    """What the runs of a seed shared: one hash where all agree; None where none was taken."""
    kinds = ("batches", "evaluation", "tokenizer")
    rows = []
    for seed in results.seeds:
        held = [series.part(run, "proof") for run in results.runs if run.seed == seed]
        cells = []
        for kind in kinds:
            seen = list(dict.fromkeys(str(proof[kind]) for proof in held if kind in proof))
            text = " ".join(entry[:HASH] for entry in seen[:4]) + (" …" if len(seen) > 4 else "")
            cells.append(Cell(text or "–", f"{len(seen)} differ" if len(seen) > 1 else "", len(seen) > 1))
        rows.append([Cell(str(seed)), *cells])
    if not any(cell.text != "–" for row in rows for cell in row[1:]):
        return None
    return Table(["seed", *kinds], rows, ["One hash means that all runs of the seed agree."], kinds)
