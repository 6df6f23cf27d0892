"""What a sweep found, told to the loggers of its runs: one more run of their group, with table and plots."""

from __future__ import annotations

import math
from typing import Any

from gptkit import registry
from gptkit.compare import report
from gptkit.compare.results import Results
from gptkit.train.loggers.base import Cell, Logger, Loggers, build_loggers


def start(results: Results, *, quiet: bool = False) -> Loggers | None:
    """Open the loggers of the sweep's runs that take tables; None where there is none.

    A logger that groups runs has this one in the group of the others, as a `report`.
    """
    nodes: dict[str, dict[str, Any]] = {}
    for run in results.runs:
        for name, node in run.config.get("logger", {}).items():
            nodes.setdefault(name, dict(node))
    nodes = {name: node for name, node in nodes.items() if _takes_tables(name)}
    if not nodes:
        return None
    for node in nodes.values():
        if "group" in node:
            node |= {"name": "report", "job_type": "report"}
    loggers = build_loggers(nodes, (lambda line: None) if quiet else None)
    loggers.start(results.folder, {"sweep": dict(results.sweep)}, f"{results.folder.name}-report")
    return loggers


def finish(loggers: Loggers, results: Results) -> None:
    """Tell of a report that was written."""
    header, rows = report.columns(results)
    loggers.table("runs", header, [[_cell(row.get(key)) for key in header] for row in rows])
    for plot in sorted((results.folder / report.PLOTS).glob("*.svg")):
        loggers.image(plot.stem, plot)
    loggers.image("report", results.folder / report.HTML)
    done = sum(run.status == "finished" for run in results.runs)
    loggers.finish({"status": "finished", "runs": len(results.runs), "finished_runs": done})


def _takes_tables(name: str) -> bool:
    return registry.load("logger", name).table is not Logger.table


def _cell(value: Any) -> Cell:
    """A value as plain data; no number where it is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
