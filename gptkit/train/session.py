"""What happens between steps: metrics, validation, samples, checkpoints, and when to stop.

Nothing here changes what is trained. Every process runs the same lines in the same order, since a
checkpoint, a validation and a sharded sample are made by all of them together; the first process
alone writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import lightning.pytorch as pl
from torch import nn

from gptkit.train import state, strategies
from gptkit.train.allocator import KeptMemory
from gptkit.train.job import Job
from gptkit.train.meter import Meter
from gptkit.train.module import TrainingModule
from gptkit.train.reporter import Reporter
from gptkit.train.resume import check_resumable, check_text
from gptkit.train.sample import sample_text
from gptkit.train.sharding import gather_anew
from gptkit.train.signals import StopSignals


class Session(pl.Callback):
    """Attends one run, from its first step or its last checkpoint to its end.

    Args:
        job: what is trained, on what, for how long.
        signals: tells whether this process was asked to stop.
        reporter: writes and shows what happens; None on all processes but the first.

    Attributes:
        step: updates done.
        stopped_by: the signal that ended the run early, or 0.
    """

    def __init__(self, job: Job, signals: StopSignals, reporter: Reporter | None) -> None:
        self.job, self.signals, self.reporter = job, signals, reporter
        self.settings = job.config["trainer"]
        self.meter = Meter()
        self.step = self.stopped_by = 0
        self._saved_step = -1
        self._owed: dict[str, Any] | None = None
        self._ended = False
        self._memory = KeptMemory()
        self._listening = ExitStack()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The model is on its device, whole or sharded: go on from the checkpoint if there is one."""
        self.trainer, self.module = trainer, pl_module
        self.job.agreement.connect()
        pl_module.on_non_finite = self._rescue
        rows = self._resume(pl_module)
        for callback in self.job.callbacks.values():
            callback.start(self.model, rows)
        refused = self.job.refuse_unreadable(self.model)
        if self.reporter:
            self.reporter.start(self.model, self.step, refused)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Steps begin: signals now ask for a stop between two of them."""
        self._listening.enter_context(self.signals.listening())
        # Lightning would broadcast a SIGTERM flag of its own in each step; the agreement tells it already.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        if self.reporter:
            self.reporter.ready()
        self._settle()
        self.meter.start()
        trainer.should_stop = bool(self.stopped_by)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One update was made."""
        if pl_module.device.type == "cpu":
            self._memory.after_step()
        outcome = pl_module.outcome
        self.step = outcome.step
        self.meter.add(outcome)
        for callback in self.job.callbacks.values():
            self.job.agreement.enough |= callback.after_step(outcome)
        if self.reporter:
            self.reporter.progress(outcome)
        self.stopped_by = outcome.ballot.signal
        self._ended = self.step >= self.job.max_steps or outcome.ballot.enough
        if self.stopped_by or self._ended or self._anything_due():
            self._between_steps()
        trainer.should_stop = bool(self.stopped_by) or self._ended

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """No step is left, or there was none to do."""
        if self._owed is not None and not self.stopped_by:
            self._listening.enter_context(self.signals.listening())
            self._settle()
            self._sample()
        if self._saved_step != self.step:
            self._save()
        self._listening.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Signals mean again what they meant before."""
        self._listening.close()

    @property
    def model(self) -> nn.Module:
        """The model itself, without what DDP wraps around it."""
        assert self.module.model is not None
        return self.module.model

    @property
    def seconds(self) -> float:
        """Time since the run's first step."""
        return self.meter.seconds

    @contextmanager
    def _as_used(self) -> Iterator[None]:
        """The weights as they are to be used, where the optimizer or a callback has others trained."""
        with ExitStack() as back:
            for door in self._doors():
                door.eval()
                back.callback(door.train)
            if self._sharded:
                back.callback(gather_anew, self.model)
            yield

    def _doors(self) -> list[Any]:
        """What may put other weights in the place of those that are trained, by `eval` and `train`."""
        optimizer: Any = self.trainer.optimizers[0]
        swaps = hasattr(optimizer, "eval") and hasattr(optimizer, "train")
        return [*([optimizer] if swaps else []), *self.job.callbacks.values()]

    @property
    def _sharded(self) -> bool:
        return strategies.strategy(self.job.config, self.job.world) == "fsdp"

    def _due(self, key: str) -> bool:
        every = self.settings[key]
        return bool(every) and self.step > 0 and self.step % every == 0

    def _anything_due(self) -> bool:
        return any(map(self._due, ("log_every", "eval_every", "checkpoint_every", "sample_every")))

    def _between_steps(self) -> None:
        """What is due after this step; metrics come before the checkpoint, so that none is lost."""
        row: dict[str, Any] = {}
        if self._ended or self._due("log_every"):
            row = self.meter.row()
        if not self.stopped_by and (self._ended or self._due("eval_every")):
            row |= self._validate()
        if self.stopped_by:  # perhaps only while it validated
            row = row or self.meter.row()
        self._write(row)
        if self.stopped_by or self._ended or self._due("checkpoint_every"):
            self._save()
        if not self.stopped_by and (self._ended or self._due("sample_every")):
            self._sample()

    def _settle(self) -> None:
        """Make up for a validation that a stop cut short: its row was taken back, and is written whole."""
        if self._owed is not None:
            row, self._owed = self._owed, None
            self._write(row | self._validate())

    def _write(self, row: dict[str, Any]) -> None:
        if row and self.reporter:
            self.reporter.row({"step": self.step, **row})

    def _validate(self) -> dict[str, float]:
        """Validation's metrics, of each split; none if there is no text for it, or a signal came meanwhile."""
        row: dict[str, float] = {}
        with self._as_used(), self.trainer.precision_plugin.forward_context():
            for name, evaluator in self.job.evaluators.items():
                found = evaluator(self.model, self.module.documents, self.module.device)
                if found is None:
                    self.stopped_by = self.job.agreement.vote().signal
                    return {}
                row |= found.metrics(name)
        if "val_loss" in row:
            for callback in self.job.callbacks.values():
                self.job.agreement.enough |= callback.after_validation(self.step, row["val_loss"])
        return row

    def _sample(self) -> None:
        """Draw a text: all processes together where the model is sharded, else the first alone."""
        if not self.settings["sample_tokens"] or not (self._sharded or self.reporter):
            return
        with self._as_used(), self.trainer.precision_plugin.forward_context():
            text = sample_text(self.model, self.job.dataset.tokenizer, self.job.config)
        if self.reporter:
            self.reporter.sample(self.step, text)

    def _save(self) -> None:
        """Write a checkpoint: every process gives its part, the first one writes."""
        optimizer = self.trainer.optimizers[0]
        with self._as_used():  # to the end: on a CPU the checkpoint's tensors are the weights' own memory
            keep = self.reporter is not None
            groups = state.gather(self.model, optimizer, keep, self.job.callbacks)
            if self.reporter:
                self.reporter.settle()
                told = {
                    "step": self.step,
                    "tokens": self.meter.tokens,
                    "seconds": self.meter.seconds,
                    "numbers": state.numbers(self.model, optimizer),
                    "fingerprint": self.job.dataset.fingerprint,
                    "config": dict(self.job.config),
                }
                self.job.run.checkpoints.save(self.step, groups, told)
        self._saved_step = self.step

    def _rescue(self, step: int) -> None:
        """The gradient of the next update is no number: keep the weights as they are."""
        if self._saved_step != step:
            self._save()

    def _resume(self, module: TrainingModule) -> list[dict[str, Any]]:
        """Put weights, optimizer, callbacks and counters back; returns the metrics up to there."""
        store, first = self.job.run.checkpoints, self.job.world.is_first
        rows: list[dict[str, Any]] = []
        newest = store.load() if first and store.steps() else None
        step = int(self.job.agreement.largest(newest.step if newest else -1))
        if step >= 0:
            checkpoint = newest or store.load(step)
            told = checkpoint.state
            check_resumable(told["config"], self.job.config)
            check_text(told["fingerprint"], self.job.dataset.fingerprint)
            optimizer, callbacks = self.trainer.optimizers[0], self.job.callbacks
            state.restore(self.model, optimizer, checkpoint.tensors, told["numbers"], callbacks)
            for door in reversed(self._doors()):
                door.train()
            self.meter = Meter(told["tokens"], told["seconds"])
            self.step = self._saved_step = module.first_step = step
        if self.reporter:
            rows = self.reporter.rewind(self.step)
            for notice in (
                *(newest.notices if newest else ()),
                *([f"Going on from step {step}."] if newest else ()),
            ):
                self.reporter.notice(notice)
        self._owe(rows)
        return rows

    def _owe(self, rows: list[dict[str, Any]]) -> None:
        """Find out, together, whether a validation of this step is still to be made."""
        mine = rows[-1] if rows and rows[-1]["step"] == self.step else {}
        due = self.step >= self.job.max_steps or self._due("eval_every")
        lacks = any(f"{name}_loss" not in mine for name in self.job.evaluators)
        missing = due and lacks and self.reporter is not None
        if self.job.agreement.largest(float(missing)):
            self._owed = dict(mine)
            if mine and self.reporter:
                self.reporter.take_back(self.step)
