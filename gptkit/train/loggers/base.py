"""What a logger is, and how several of them are kept from disturbing training."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptkit import registry

Metrics = Mapping[str, "float | int"]
Cell = str | int | float | bool | None


class Logger(ABC):
    """A place that metrics go to; built as `Logger(*, options)`, on the first process alone.

    A logger is a sink: metrics.jsonl is the truth. By the time that `start` is called it holds what
    an earlier part of the run has measured, cut back to the step that the run goes on from, so a
    logger that keeps files of its own starts them from there. No method waits for a network or a
    program outside. One that raises is switched off for the rest of the run.
    """

    def start(self, run_dir: Path, config: dict[str, Any], run_id: str) -> None:
        """Training begins or goes on.

        Args:
            run_dir: the run's folder.
            config: the whole config, plain data.
            run_id: the same for all parts of a run that was resumed.
        """

    @abstractmethod
    def log(self, metrics: Metrics, step: int) -> None:
        """One row of metrics, measured after update `step`."""

    def text(self, name: str, text: str, step: int) -> None:
        """A text, such as a sample that the model wrote after update `step`."""

    def image(self, name: str, path: Path) -> None:
        """A picture that lies at `path`, such as curve.svg."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """A table, such as that of a comparison's runs: a cell of each row for each column."""

    def finish(self, result: dict[str, Any]) -> None:
        """Training ended; `result` is what result.json will hold. No other call follows."""

    def messages(self) -> list[str]:
        """What the user should know since the last call, one line each."""
        return []


class Loggers(Logger):
    """Several loggers as one that never raises: one that fails is dropped, with one warning.

    Args:
        loggers: by name.
        notice: shows a line to the user.
    """

    def __init__(self, loggers: Mapping[str, Logger], notice: Callable[[str], None] | None = None) -> None:
        self.loggers = dict(loggers)
        self.notice = notice or _to_stderr

    def start(self, run_dir: Path, config: dict[str, Any], run_id: str) -> None:
        self._each(lambda logger: logger.start(run_dir, config, run_id))

    def log(self, metrics: Metrics, step: int) -> None:
        self._each(lambda logger: logger.log(metrics, step))

    def text(self, name: str, text: str, step: int) -> None:
        self._each(lambda logger: logger.text(name, text, step))

    def image(self, name: str, path: Path) -> None:
        self._each(lambda logger: logger.image(name, path))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        self._each(lambda logger: logger.table(name, columns, rows))

    def finish(self, result: dict[str, Any]) -> None:
        self._each(lambda logger: logger.finish(result))

    def _each(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                call(logger)
                lines = logger.messages()
            except Exception as error:
                del self.loggers[name]
                why = f"{type(error).__name__}: {error}"
                lines = [f"logger {name!r} failed and is off for the rest of this run ({why})."]
            for line in lines:
                self.notice(line)


def build_loggers(
    nodes: Mapping[str, Mapping[str, Any]], notice: Callable[[str], None] | None = None
) -> Loggers:
    """The loggers of a normalised config's `logger` group.

    Raises:
        UserError: a logger cannot be had on this machine, such as for want of a package.
    """
    built = {name: registry.load("logger", name)(**node) for name, node in nodes.items()}
    return Loggers(built, notice)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
