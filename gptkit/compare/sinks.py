"""What a sweep found, told to the loggers of its runs: one more run of their group, with table and plots."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from gptkit import registry
from gptkit.compare import report
from gptkit.compare.results import PLOTS, Results
from gptkit.errors import GptkitError
from gptkit.train.loggers.base import Cell, Logger, Loggers, build_loggers


def start(results: Results, *, quiet: bool = False) -> Loggers | None:
    """Open the loggers of the sweep's runs that take tables; None where there is none.

    A logger that groups runs has this one in the group of the others, as a `report`. One that cannot be had
    any more is told of; the report does not wait for it.
    """
    say: Callable[[str], None] = (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr))
    nodes: dict[str, dict[str, Any]] = {}
    for run in results.runs:
        for name, node in run.config.get("logger", {}).items():
            nodes.setdefault(name, dict(node))
    for node in nodes.values():
        if "group" in node:
            node |= {"name": "report", "job_type": "report"}
    made: dict[str, Logger] = {}
    for name, node in nodes.items():
        try:
            if registry.load("logger", name).table is not Logger.table:
                made |= build_loggers({name: node}).loggers
        except GptkitError as error:
            say(f"The report is not told to logger {name!r}: {error}")
    if not made:
        return None
    loggers = Loggers(made, say)
    loggers.start(results.folder, {"sweep": dict(results.sweep)}, f"{results.folder.name}-report")
    return loggers


def finish(loggers: Loggers, results: Results) -> None:
    """Tell of a report that was written."""
    header, rows = report.columns(results)
    loggers.table("runs", header, [[_cell(row.get(key)) for key in header] for row in rows])
    for plot in sorted((results.folder / PLOTS).glob("*.svg")):
        loggers.image(plot.stem, plot)
    loggers.image("report", results.folder / report.HTML)
    done = sum(run.status == "finished" for run in results.runs)
    loggers.finish({"status": "finished", "runs": len(results.runs), "finished_runs": done})


def _cell(value: Any) -> Cell:
    """A value as plain data; no number where it is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
