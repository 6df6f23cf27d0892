"""The report as Markdown that also reads well in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from gptkit.compare import probes, series, tables, trial_curves, tuning, words
from gptkit.compare.honesty import Caution
from gptkit.compare.ink import Plot
from gptkit.compare.pairing import Proof
from gptkit.compare.plots import MOST_LINES
from gptkit.compare.results import PLOTS, Results
from gptkit.compare.statistics import Comparison
from gptkit.compare.tables import Table, clean

_ACTIVE = re.compile(r"([\\`*_\[\]<>|#~$!])")  # what Markdown or HTML might take for its own


def report(
    results: Results,
    comparison: Comparison,
    cautions: Sequence[Caution],
    proofs: Sequence[Proof],
    plots: Mapping[str, Plot],
) -> str:
    """The whole of it; arguments as of `pages.report`."""
    return "\n".join(_lines(results, comparison, cautions, proofs, plots)) + "\n"


def _lines(
    results: Results,
    comparison: Comparison,
    cautions: Sequence[Caution],
    proofs: Sequence[Proof],
    plots: Mapping[str, Plot],
) -> Iterator[str]:
    labels = series.order(results, (one.label for one in comparison.ranking))
    yield f"# {_text(words.title(results))}"
    yield from ("", _text(words.question(results, comparison)), "")
    yield from (f"- {_text(sentence)}" for sentence in comparison.verdict)
    if cautions:
        yield from ("", "## Cautions", "", *(f"- {_text(caution.text)}" for caution in cautions))
    for heading, prefix, table in (
        ("Ranking", "ranking", tables.ranking(comparison) if comparison.ranking else None),
        ("Learning curves", "curve-", None),
        ("Answers by length", "probe-", probes.table(results, labels)),
        ("Loss by position", "position", None),
        ("Longer and shorter texts", "length-", tables.lengths(results, labels)),
        ("Positions", "encoding-", None),
        ("Attention by distance", "attention-", None),
        ("Cost", "cost", tables.cost(results, labels)),
        ("Differences", "differences", tables.differences(comparison) if comparison.differences else None),
    ):
        drawn = _pictures(plots, prefix)
        if table or drawn:
            yield from ("", f"## {heading}", *drawn, *(["", *_table(table)] if table else []))
            placed = tables.placed(results, labels) if prefix == "position" else ""
            yield from ["", _text(placed)] if placed else []
    tuned = tuning.tables(results, labels)
    if tuned:
        yield from ("", "## Tuning", "", _text(tuning.told(results)), *_pictures(plots, "tuning-"))
        for note in trial_curves.notes(results, labels[:MOST_LINES]):
            yield from ("", _text(note))
        for table in tuned:
            yield from ("", *_table(table))
    if proofs:
        yield from ("", "## Equal ground", "")
        yield from (
            f"- {'NOT HELD' if proof.state == 'broken' else proof.state}: {_text(proof.text)}"
            for proof in proofs
        )
        yield from (f"- {line}" for line in [words.pairing(comparison)] if line)
    failed = words.failures(results)
    if failed:
        yield from ("", "## Runs that did not finish", "")
        for name, error in failed:
            last = words.lines_of(error).splitlines()[-1:]
            yield f"- {_text(name)}{': ' + _text(last[0]) if last else ''}"
    yield from ("", "## To repeat it", "", f"    {words.command(results)}", "")
    yield from (f"- {_text(name)}: {_text(value)}" for name, value in words.versions(results))


def _pictures(plots: Mapping[str, Plot], prefix: str) -> list[str]:
    """A line for each plot of a section, after an empty one."""
    found = [(name, plot.title) for name, plot in plots.items() if name.startswith(prefix)]
    return [""] * bool(found) + [f"![{_text(title)}]({PLOTS}/{name}.svg)" for name, title in found]


def _table(table: Table) -> Iterator[str]:
    """A table whose columns stand under one another in a terminal."""
    rows = [
        [_text(f"{cell.text} ({cell.note})" if cell.note else cell.text) for cell in row]
        for row in table.rows
    ]
    header = [_text(name) for name in table.header]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    left = [number == 0 or name in table.words for number, name in enumerate(table.header)]
    for line in (header, None, *rows):
        cells = (
            (
                "-" * width if side else "-" * (width - 1) + ":"
                for width, side in zip(widths, left, strict=True)
            )
            if line is None
            else (
                cell.ljust(width) if side else cell.rjust(width)
                for cell, width, side in zip(line, widths, left, strict=True)
            )
        )
        yield f"| {' | '.join(cells)} |"
    if table.notes:
        yield from ("", *(_text(note) for note in table.notes))


def _text(text: str) -> str:
    return _ACTIVE.sub(r"\\\1", clean(text))
