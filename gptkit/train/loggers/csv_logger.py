"""metrics.csv: a table that a spreadsheet opens."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import IO, Any

from gptkit.registry import register
from gptkit.train import metrics as truth
from gptkit.train.loggers.base import Logger, Metrics


@register("logger", "csv")
class CsvLogger(Logger):
    """Writes metrics.csv into the run's folder, one row a step, one column a metric.

    A metric that appears later gets its column then: the table is written anew with it. Empty cells
    are metrics that a row does not have.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = ["step"]
        self._file: IO[str] | None = None

    def start(self, run_dir: Path, config: dict[str, Any], run_id: str) -> None:
        self.path = run_dir / "metrics.csv"
        self._rows = truth.read(run_dir / "metrics.jsonl")
        self._rewrite()

    def log(self, metrics: Metrics, step: int) -> None:
        row = {"step": step, **metrics}
        self._rows.append(row)
        if any(name not in self._columns for name in row):
            self._rewrite()
        elif self._file:
            csv.writer(self._file).writerow(self._cells(row))
            self._file.flush()

    def finish(self, result: dict[str, Any]) -> None:
        if self._file:
            self._file.close()

    def _cells(self, row: dict[str, Any]) -> list[Any]:
        return [row.get(name, "") for name in self._columns]

    def _rewrite(self) -> None:
        """Write the whole table beside the old one, then put it in its place."""
        self._columns = list(dict.fromkeys(["step", *(name for row in self._rows for name in row)]))
        if self._file:
            self._file.close()
        draft = self.path.with_name(".metrics.csv.new")
        self._file = draft.open("w", encoding="utf-8", newline="")
        csv.writer(self._file).writerows([self._columns, *map(self._cells, self._rows)])
        self._file.flush()
        os.replace(draft, self.path)
