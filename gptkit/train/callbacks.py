"""What else happens during training."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from gptkit import registry
from gptkit.errors import check_options
from gptkit.registry import register
from gptkit.train.meter import StepOutcome


class Callback:
    """Built as `Callback(*, options)`, once on each process; every method may be left out.

    A callback sees the run and may end it; it must not change what is trained. It may keep tensors, and
    with `eval` and `train` have the run judged by other weights than those that are trained, such as
    their average.

    Attributes:
        state: what it keeps of each parameter, by a word: tensors of the parameter's shape, which lie
            where it lies. Checkpoints hold them, and they are back before `start` when a run goes on.
    """

    state: Mapping[nn.Parameter, dict[str, Tensor]] = MappingProxyType({})

    def start(self, model: nn.Module, rows: list[dict[str, Any]]) -> None:
        """Training begins, or goes on after the metrics `rows` of an earlier part of the run."""

    def after_step(self, outcome: StepOutcome) -> bool:
        """An update was made. Returns whether the run has had enough: it then ends after the next."""
        return False

    def after_validation(self, step: int, loss: float) -> bool:
        """A validation was made after update `step`. Returns whether the run has had enough."""
        return False

    def eval(self) -> None:
        """Put the weights that are to be used in the place of those that are trained.

        The model is validated, sampled from and saved between this and `train`.
        """

    def train(self) -> None:
        """Put the weights back that are trained, bit for bit; on going on, out of `state`."""

    def finish(self, result: dict[str, Any]) -> None:
        """The run ended; `result` is what `result.json` will hold."""


def stands_in(name: str) -> bool:
    """Whether a registered callback puts other weights in the place of those that are trained."""
    return registry.load("callback", name).eval is not Callback.eval


@register("callback", "early_stop")
class EarlyStop(Callback):
    """Ends a run whose validation loss no longer falls (Prechelt 1998).

    Args:
        patience: validations in a row that may bring nothing.
        least: the fall in nats per token that counts as one.
    """

    def __init__(self, *, patience: int = 3, least: float = 0.0) -> None:
        check_options("callback.early_stop", ("patience", patience, "at least 1", patience >= 1))
        self.patience, self.least = patience, least
        self.best, self.waited = math.inf, 0

    def start(self, model: nn.Module, rows: list[dict[str, Any]]) -> None:
        self.best, self.waited = math.inf, 0
        for row in rows:
            if "val_loss" in row:
                self.after_validation(row["step"], row["val_loss"])

    def after_validation(self, step: int, loss: float) -> bool:
        fell = loss < self.best - self.least
        self.best, self.waited = (loss, 0) if fell else (self.best, self.waited + 1)
        return self.waited >= self.patience


@register("callback", "time_limit")
class TimeLimit(Callback):
    """Ends a run in time, with validation and a checkpoint, such as before a cluster's limit.

    Args:
        minutes: time from the first step of this part of the run.
    """

    def __init__(self, *, minutes: float = 60.0) -> None:
        check_options("callback.time_limit", ("minutes", minutes, "a number of at least 0", minutes >= 0))
        self.seconds = 60 * minutes
        self.began = 0.0

    def start(self, model: nn.Module, rows: list[dict[str, Any]]) -> None:
        self.began = time.monotonic()

    def after_step(self, outcome: StepOutcome) -> bool:
        return time.monotonic() - self.began >= self.seconds
