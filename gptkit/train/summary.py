"""What a run came to, on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gptkit.numbers import amount
from gptkit.train import metrics
from gptkit.train.console import LastingConsole
from gptkit.train.terminal import duration, safe, writable
from gptkit.train.terminal_curve import terminal_curve

WIDTH = 80
_CURVE_WIDTH = 45
_STATUS_COLOURS = {"failed": "red", "stopped": "yellow"}


def summary(
    result: Mapping[str, Any], sample: str, run_path: Path | str, *, console: Console | None = None
) -> None:
    """Print a run's result: losses, speed, curve, a sample of text, where it lies and what to do next.

    Args:
        result: what result.json holds.
        sample: text that the model wrote; empty shows none.
        run_path: the run's folder, as the user would write it.
        console: where to; standard output if not given.
    """
    console = console or LastingConsole(highlight=False)
    width = min(WIDTH, console.width)
    plain = not writable("⣿●╰─│┤", console.file)
    rule = "-" if plain else "─"
    rows = metrics.read(Path(run_path) / "metrics.jsonl")
    status = str(result.get("status", "finished"))
    title = f"{rule * 2} {status} "
    console.print(Text(title + rule * (width - len(title)), f"bold {_STATUS_COLOURS.get(status, 'green')}"))
    console.print()
    if error := result.get("error"):
        console.print(
            Padding(Text(safe(str(error), console.file), "red"), (0, 0, 1, 2), expand=False), width=width
        )
    facts = _facts(result)
    side = width - _CURVE_WIDTH >= 32
    curve = terminal_curve(rows, _CURVE_WIDTH if side else width - 4, plain=plain)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(facts, Text("\n").join(curve)) if side else table.add_row(facts)
    console.print(Padding(table, (0, 0, 1, 2), expand=False))
    if curve and not side:
        console.print(Padding(Text("\n").join(curve), (0, 0, 1, 2), expand=False))
    if sample.strip():
        console.print(_quoted(sample, console, width, "|" if plain else "│"))
    console.print(_next_steps(status, Path(run_path)), soft_wrap=True)


def _facts(result: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right", no_wrap=True)
    for key, label, show, style in (
        ("val_loss", "validation loss", lambda v: f"{v:.4f}", "bold yellow"),
        ("val_bits_per_byte", "bits per byte", lambda v: f"{v:.4f}", "bold"),
        ("val_accuracy", "right answers", lambda v: f"{v:.1%}", "bold"),
        ("train_loss", "training loss", lambda v: f"{v:.4f}", "cyan"),
        ("seconds", "time", duration, ""),
        ("tokens_per_second", "tokens/s", amount, ""),
        ("steps", "steps", lambda v: f"{v:,}", ""),
        ("tokens", "tokens", amount, ""),
        ("parameters", "parameters", amount, ""),
    ):
        if result.get(key) is not None:
            table.add_row(label, Text(show(result[key]), style))
    return table


def _quoted(sample: str, console: Console, width: int, bar: str) -> Text:
    """The sample with a line at its left, wrapped."""
    text = Text(safe(sample.strip("\n"), console.file).expandtabs(4))
    lines = text.wrap(console, width - 6)
    quoted = Text("  sample\n", style="dim")
    for line in lines[:16]:
        line.rstrip()
        quoted = Text.assemble(quoted, ("  " + bar + " ", "dim"), line, "\n")
    return Text.assemble(quoted, (f"  {bar} ... in samples.txt\n", "dim")) if len(lines) > 16 else quoted


def _next_steps(status: str, run_path: Path) -> Text:
    commands = ['gptkit generate run=latest prompt="To be"', 'gptkit next run=latest prompt="To be"']
    if status == "stopped":
        commands.insert(0, "gptkit train resume=latest")
    text = Text.assemble(("  run   ", "dim"), (str(run_path), "bold"), "\n")
    for index, command in enumerate(commands if status != "failed" else []):
        text = Text.assemble(text, ("  next  " if index == 0 else "        ", "dim"), command, "\n")
    text.rstrip()
    return text
