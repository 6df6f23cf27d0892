"""What the first process writes and shows: metrics, loggers, samples, progress and the result."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gptkit.generate.reader import reads_ahead
from gptkit.model.cost import flops_per_token
from gptkit.train import hardware, metrics, strategies
from gptkit.train.curve import curve_svg
from gptkit.train.job import Job
from gptkit.train.launch import announce_ready
from gptkit.train.loggers.base import build_loggers
from gptkit.train.meter import StepOutcome
from gptkit.train.metrics import MetricsLog
from gptkit.train.progress import Progress
from gptkit.train.sample import add_sample, rewind_samples

_SHOWN = ("tokens_per_second", "val_loss")


class Reporter:
    """Speaks for a run: to its files, its loggers and the terminal.

    Args:
        job: what is trained.
        quiet: show notices alone.

    Raises:
        UserError: a logger cannot be had on this machine.
    """

    def __init__(self, job: Job, quiet: bool = False) -> None:
        self.job, self.quiet = job, quiet
        self.folder: Path = job.run.path
        self._progress: Progress | None = None
        self._loggers = build_loggers(job.config["logger"], self.notice)
        self._metrics: MetricsLog | None = None
        self._last: dict[str, Any] = {}
        self._best = math.inf
        self._refused: dict[str, str] = {}
        self._parameters = 0
        self._reads_ahead = False
        self._flops_per_token = 0.0
        self._peak_flops: float | None = None
        self._device = torch.device("cpu")

    def notice(self, text: str) -> None:
        """Show the user a line."""
        if self._progress is not None:
            self._progress.notice(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def rewind(self, step: int) -> list[dict[str, Any]]:
        """Cut what was written back to `step`; returns the metrics up to there."""
        self._metrics = MetricsLog(self._metrics_path, step)
        rewind_samples(self._samples_path, step)
        rows = metrics.read(self._metrics_path)
        for row in rows:
            self._remember(row)
        return rows

    def take_back(self, step: int) -> None:
        """Drop the row of `step`; it will be written anew, with what it lacks."""
        if self._metrics is not None:
            self._metrics.close()
        self._metrics = MetricsLog(self._metrics_path, step - 1)

    def start(self, model: nn.Module, step: int, refused: Mapping[str, str] | None = None) -> None:
        """The model stands, and `step` updates of it were done before.

        Args:
            model: whole or sharded.
            step: updates done.
            refused: the splits that it cannot read, and why.
        """
        self._refused = dict(refused or {})
        for name, why in self._refused.items():
            self.notice(f"{name} is not validated on: {why}")
        self._reads_ahead = reads_ahead(model)  # type: ignore[arg-type]
        if self._reads_ahead:
            self.notice(
                "model.mask lets tokens read later ones: the loss counts guesses at tokens that were seen, "
                "and is no measure of how well a text is predicted."
            )
        config = self.job.config
        self._parameters = model.n_parameters()  # type: ignore[operator]
        self._flops_per_token = flops_per_token(model, self.job.reach)  # type: ignore[arg-type]
        self._device = next(model.parameters()).device
        self._peak_flops = hardware.peak_flops(self._device, config["trainer"]["precision"])
        self._loggers.start(self.folder, dict(config), self.job.run.unique_name)
        self._progress = Progress(self.job.max_steps, step, self.quiet)

    def ready(self) -> None:
        """Steps begin."""
        announce_ready()

    def progress(self, outcome: StepOutcome) -> None:
        """One update was made."""
        if self._progress is not None:
            self._progress.update(outcome.step, outcome.loss)

    def row(self, row: dict[str, Any]) -> None:
        """Write a row of metrics, with how well and how full the hardware is used."""
        rate = row.get("tokens_per_second")
        if rate is not None:
            used = hardware.mfu(self._flops_per_token, rate, self._peak_flops, self.job.world.size)
            row |= {} if used is None else {"mfu": used}
            row["memory_bytes"] = hardware.memory_bytes(self._device)
        self._remember(row)
        assert self._metrics is not None
        self._metrics.write(row)
        if self._progress is not None:
            self._progress.update(row["step"], **{key: row[key] for key in _SHOWN if key in row})
        self._loggers.log({key: value for key, value in row.items() if key != "step"}, row["step"])

    def sample(self, step: int, text: str) -> None:
        """Write a sample of text."""
        add_sample(self._samples_path, step, text)
        if self._progress is not None:
            self._progress.sample(text, step)
        self._loggers.text("sample", text, step)

    def settle(self) -> None:
        """A checkpoint is about to be saved: what it relies on goes to the disk first."""
        if self._metrics is not None:
            self._metrics.sync()

    def finish(self, ended: dict[str, Any]) -> dict[str, Any]:
        """Draw the curve, end the loggers and write the result, last of all files; returns it."""
        result = self._result(ended)
        self._close()
        self._draw_curve()
        self._loggers.finish(result)
        self.job.run.write_json("result.json", result)
        return result

    def _result(self, ended: dict[str, Any]) -> dict[str, Any]:
        last = self._last
        seconds, tokens = last.get("seconds", 0.0), last.get("tokens", 0)
        return {
            **ended,
            "run": self.job.run.name,
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
            "reads_ahead": self._reads_ahead,
            "best_val_loss": self._best if math.isfinite(self._best) else None,
            "strategy": strategies.strategy(self.job.config, self.job.world),
            "devices": self.job.world.size,
            **self._asked(),
        }

    def _asked(self) -> dict[str, Any]:
        """What a corpus of examples has to tell: how many answers were right, in each split."""
        told: dict[str, Any] = {}
        for name, split in self.job.dataset.splits.items():
            if name == "train" or split.width is None:
                continue
            facts = {"length": split.length, "trained": split.trained, "examples": split.examples}
            if name in self._refused:
                told[name] = {**facts, "refused": self._refused[name]}
            elif f"{name}_accuracy" in self._last:
                found = {key: self._last[f"{name}_{key}"] for key in ("loss", "accuracy", "token_accuracy")}
                told[name] = {**facts, **found}
        if not told:
            return {}
        return {"val_accuracy": self._last.get("val_accuracy"), "splits": told}

    def _draw_curve(self) -> None:
        rows = metrics.read(self._metrics_path)
        if rows:
            picture = self.folder / "curve.svg"
            picture.write_text(curve_svg(rows, title=self.job.run.name), "utf-8")
            self._loggers.image("curve", picture)

    def _close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
        if self._progress is not None:
            self._progress.close()

    @property
    def _metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def _samples_path(self) -> Path:
        return self.folder / "samples.txt"

    def _remember(self, row: dict[str, Any]) -> None:
        self._last.update(row)
        self._best = min(self._best, row.get("val_loss", math.inf))
