"""Event files for TensorBoard."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptkit.errors import UserError, check_options
from gptkit.registry import register
from gptkit.train import metrics as truth
from gptkit.train.loggers.base import Cell, Logger, Metrics


@register("logger", "tensorboard")
class TensorBoardLogger(Logger):
    """Writes event files into the run's folder; look at them with `tensorboard --logdir runs`.

    Metrics become scalars; the config and the samples become texts. Curves it draws itself.

    Args:
        flush_seconds: the longest time that a metric waits before it is on the disk.
    """

    def __init__(self, *, flush_seconds: int = 10) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError(
                "logger=tensorboard needs the tensorboard package, which is not installed. "
                "Install it with: pip install 'gptkit[tensorboard]', or choose another logger, such as logger=csv."
            )
        whole = ("flush_seconds", flush_seconds, "a whole number of at least 1", flush_seconds >= 1)
        check_options("logger.tensorboard", whole)
        self.flush_seconds = flush_seconds
        self._writer: Any = None

    def start(self, run_dir: Path, config: dict[str, Any], run_id: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder, rows = run_dir / "tensorboard", truth.read(run_dir / "metrics.jsonl")
        went_before = folder.is_dir() and any(folder.iterdir())
        # TensorBoard hides what earlier files say of the steps from `purge_step` on.
        purge_step = rows[-1]["step"] + 1 if rows else 0
        self._writer = SummaryWriter(
            str(folder), purge_step=purge_step if went_before else None, flush_secs=self.flush_seconds
        )
        if not went_before:
            self._writer.add_text("config", _code(json.dumps(config, indent=2)), 0)
            for row in rows:
                self.log(row, row["step"])

    def log(self, metrics: Metrics, step: int) -> None:
        for name, value in metrics.items():
            if name != "step" and isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, step)

    def text(self, name: str, text: str, step: int) -> None:
        self._writer.add_text(name, _code(text), step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        lines = [list(columns), ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
        self._writer.add_text(name, "\n".join(f"| {' | '.join(line)} |" for line in lines), 0)

    def finish(self, result: dict[str, Any]) -> None:
        self._writer.add_text(
            "result", _code(json.dumps(result, indent=2, default=str)), result.get("steps", 0)
        )
        self._writer.close()


def _cell(value: Cell) -> str:
    """A value within a Markdown table."""
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _code(text: str) -> str:
    """Text as a Markdown code block, which keeps its lines as they are."""
    return "\n".join(f"    {line}" for line in text.splitlines())
