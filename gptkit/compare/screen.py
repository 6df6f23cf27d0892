"""What a comparison proves, on one screen: the verdict, the ranking, what weakens it, where the report lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from gptkit.compare.statistics import Comparison


def show(
    comparison: Comparison,
    cautions: Sequence[Any],
    proofs: Sequence[Any],
    place: Path,
    *,
    quiet: bool = False,
    console: Console | None = None,
) -> None:
    """Print it.

    Args:
        comparison: what the scores say.
        cautions: with `text`: why a claim would be weak.
        proofs: with `state` and `text`: whether the runs were paired.
        place: the report.
        quiet: the verdict alone.
        console: where to; standard output if not given.
    """
    console = console or Console(highlight=False)
    for sentence in comparison.verdict:
        console.print(Text(sentence, "bold" if sentence == comparison.verdict[0] else ""))
    if quiet:
        return
    console.print(Padding(_ranking(comparison), (1, 0, 1, 0), expand=False))
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(style="dim", no_wrap=True)
    for proof in proofs:
        lines.add_row(proof.state, Text(proof.text, "red" if proof.state == "broken" else "dim"))
    for caution in cautions:
        lines.add_row("caution", Text(caution.text, "yellow"))
    console.print(Padding(lines, (0, 0, 0, 2)))
    console.print(Text.assemble(("  report   ", "dim"), (str(place), "bold")), soft_wrap=True)


def _ranking(comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("variant")
    table.add_column(comparison.metric, justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("sd", justify="right")
    table.add_column("seeds", justify="right")
    table.add_column("")
    for entry in comparison.ranking:
        low, high = entry.interval
        between = f"{low:.4f} to {high:.4f}" if math.isfinite(low) else ""
        numbers = [_number(entry.mean), between, _number(entry.sd), str(entry.n)]
        table.add_row(entry.label, *numbers, Text(entry.letters, "dim"))
    return table


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""
