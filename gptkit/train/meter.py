"""What happened since the last row of metrics, and how fast: counted, and timed by the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gptkit.train.agreement import Ballot


@dataclass(frozen=True)
class StepOutcome:
    """What one update was.

    Attributes:
        step: the number of updates done, this one included.
        loss: mean over the targets of the whole batch, in nats.
        tokens: how many were read, those that count for nothing among them.
        gradient_norm: before clipping.
        learning_rate: of the optimizer's first group.
        ballot: what all processes together asked for.
    """

    step: int
    loss: float
    tokens: int
    gradient_norm: float
    learning_rate: float
    ballot: Ballot


class Meter:
    """Adds up steps between two rows of metrics.

    Args:
        tokens: trained on before, by an earlier part of the run.
        seconds: that part's time.
        clock: gives the time in seconds.
    """

    def __init__(
        self, tokens: int = 0, seconds: float = 0.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.tokens = tokens
        self._clock, self._earlier = clock, seconds
        self._began = self._last = clock()
        self._clear()

    def start(self) -> None:
        """The first step is about to begin."""
        self._began = self._last = self._clock()

    @property
    def seconds(self) -> float:
        """Time since the run's first step, of all its parts: validation, samples and saving included."""
        return self._earlier + self._clock() - self._began

    def add(self, outcome: StepOutcome) -> None:
        """Count one step."""
        self._steps += 1
        self._loss += outcome.loss
        self._norm += outcome.gradient_norm
        self._tokens += outcome.tokens
        self.tokens += outcome.tokens
        self._rate, self._step = outcome.learning_rate, outcome.step

    def row(self) -> dict[str, float | int]:
        """The steps since the last row, as metrics, or nothing if there were none; starts anew.

        `loss` and `gradient_norm` are means over those steps; `tokens_per_second` is what they
        trained on, divided by all the time that passed since the last row.
        """
        if not self._steps:
            return {}
        now = self._clock()
        row = {
            "step": self._step,
            "loss": self._loss / self._steps,
            "learning_rate": self._rate,
            "gradient_norm": self._norm / self._steps,
            "tokens": self.tokens,
            "tokens_per_second": self._tokens / max(now - self._last, 1e-9),
            "seconds": self._earlier + now - self._began,
        }
        self._last = now
        self._clear()
        return row

    def _clear(self) -> None:
        self._steps = self._tokens = self._step = 0
        self._loss = self._norm = self._rate = 0.0
