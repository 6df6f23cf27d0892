"""Speed and memory beside other implementations, each pair in one run.

`make bench ARGS= [step quality gpt2 startup decode parts bias sweep gather] [--smoke] [--json]`. A figure is a ratio: both
sides run in turn on the same machine, and the better of each side's repeats counts.
"""

from __future__ import annotations

import argparse
import json
import sys

from rich.console import Console
from rich.table import Table

from bench import decode, gpt2, parts, startup, step, sweep
from bench.figure import Figure

BENCHES = {
    "step": step.overhead,
    "quality": step.quality,
    "gpt2": gpt2.train,
    "startup": startup.first_step,
    "decode": decode.cached,
    "parts": parts.composed,
    "bias": parts.bias,
    "sweep": sweep.overhead,
    "gather": sweep.gathered,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which; all if none is named")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    for name in arguments.names or BENCHES:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        figures += BENCHES[name](smoke=arguments.smoke)
    if arguments.json:
        print(json.dumps([figure.as_dict() for figure in figures]))
    else:
        show(figures)
    return 0


def show(figures: list[Figure]) -> None:
    """A table that fits a terminal: what was measured, beside whom, and whether it reaches its mark."""
    table = Table(title="gptkit beside others, measured in this run")
    for column in ("figure", "gptkit", "peer", "ratio", "mark", ""):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for figure in figures:
        table.add_row(
            f"{figure.name}\n[dim]{figure.peer_name}[/]",
            figure.ours_text,
            figure.peer_text,
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            figure.mark,
            "[green]reached[/]" if figure.reached else "[red]missed[/]",
        )
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
