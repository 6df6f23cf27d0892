"""What the first process writes and shows: metrics, loggers, samples, progress and the result."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import nn

from gptkit import registry
from gptkit.model.cost import flops_per_token
from gptkit.train import hardware, history, strategies
from gptkit.train.job import Job
from gptkit.train.launch import announce_ready
from gptkit.train.loggers.base import Logger
from gptkit.train.meter import StepOutcome
from gptkit.train.metrics import MetricsLog
from gptkit.train.progress import Progress


class Reporter:
    """Speaks for a run: to its files, its loggers and the terminal.

    Args:
        job: what is trained.

    Attributes:
        last: the newest value of each metric.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.folder: Path = job.run.path
        self.last: dict[str, Any] = {}
        self._best = math.inf
        self._parameters = 0
        self._flops_per_token = self._peak_flops = 0.0
        self._loggers: list[Logger] = [
            registry.load("logger", name)(**options) for name, options in job.config.get("logger", {}).items()
        ]

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Cut what was written back to `step`; returns the metrics up to there."""
        rows = history.rewind_metrics(self._metrics_path, step)
        history.rewind_samples(self._samples_path, step)
        for row in rows:
            self._remember(row)
        return rows

    def take_back(self) -> None:
        """Drop the last row of metrics; it will be written anew, with what it lacks."""
        history.drop_last_row(self._metrics_path)

    def start(self, model: nn.Module, step: int) -> None:
        """The model stands, and `step` updates of it were done before."""
        config = self.job.config
        self._parameters = model.n_parameters()  # type: ignore[operator]
        self._flops_per_token = flops_per_token(model, self.job.context_length)  # type: ignore[arg-type]
        self._device = next(model.parameters()).device
        self._peak_flops = hardware.peak_flops(self._device, config["trainer"]["precision"])
        self._metrics = MetricsLog(self._metrics_path)
        for logger in self._loggers:
            logger.start(self.folder, dict(config), self.folder.name)
        self._progress = Progress(self.job.max_steps, step)

    def ready(self) -> None:
        """Steps begin."""
        announce_ready()

    def progress(self, outcome: StepOutcome) -> None:
        """One update was made."""
        self._progress.update(outcome.step, outcome.loss)

    def row(self, row: dict[str, Any]) -> None:
        """Write a row of metrics, with how well and how full the hardware is used."""
        if "tokens_per_second" in row:
            used = row["tokens_per_second"] * self._flops_per_token
            if self._peak_flops:
                row["mfu"] = used / (self._peak_flops * self.job.world.size)
            row["memory_bytes"] = hardware.memory_bytes(self._device)
        self._remember(row)
        self._metrics.write(row)
        for logger in self._loggers:
            logger.log({key: value for key, value in row.items() if key != "step"}, row["step"])

    def sample(self, step: int, text: str) -> None:
        """Write a sample of text."""
        history.add_sample(self._samples_path, step, text)
        for logger in self._loggers:
            logger.text("sample", text, step)

    def finish(self, ended: dict[str, Any]) -> dict[str, Any]:
        """Write the result, last of all files; returns it."""
        last = self.last
        seconds, tokens = last.get("seconds", 0.0), last.get("tokens", 0)
        result = {
            **ended,
            "run": self.folder.name,
            "seed": self.job.config["seed"],
            "steps": last.get("step", 0),
            "tokens": tokens,
            "seconds": seconds,
            "tokens_per_second": tokens / seconds if seconds else 0.0,
            "parameters": self._parameters,
            "flops": self._flops_per_token * tokens,
            "train_loss": last.get("loss"),
            "val_loss": last.get("val_loss"),
            "val_bits_per_byte": last.get("val_bits_per_byte"),
            "best_val_loss": self._best if math.isfinite(self._best) else None,
            "strategy": strategies.strategy(self.job.config, self.job.world),
            "devices": self.job.world.size,
        }
        for logger in self._loggers:
            logger.finish(result)
        self.job.run.write_json("result.json", result)
        return result

    @property
    def _metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def _samples_path(self) -> Path:
        return self.folder / "samples.txt"

    def _remember(self, row: dict[str, Any]) -> None:
        self.last.update(row)
        self._best = min(self._best, row.get("val_loss", math.inf))
