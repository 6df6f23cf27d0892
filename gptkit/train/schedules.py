"""The learning rate as a function of the step, and of nothing else.

A schedule gives the factor on the optimizer's `lr` for the update numbered `step`, counted from 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

from gptkit.errors import check_options
from gptkit.registry import register


class Schedule(ABC):
    """Built as `Schedule(*, options)`; every schedule warms up, then follows its own curve.

    Args:
        rules: what a schedule asks of options of its own, as rules of `check_options`.
        warmup_steps: updates before the learning rate is whole.
        final_fraction: what is left of it at the end.
    """

    def __init__(
        self,
        *rules: tuple[str, object, str, bool],
        warmup_steps: int = 100,
        final_fraction: float = 0.1,
    ) -> None:
        check_options(
            "schedule",
            ("warmup_steps", warmup_steps, "0 or more", warmup_steps >= 0),
            ("final_fraction", final_fraction, "a number from 0 to 1", 0 <= final_fraction <= 1),
            *rules,
        )
        self.warmup_steps, self.final_fraction = warmup_steps, final_fraction

    def factor(self, step: int, max_steps: int) -> float:
        """The factor on the learning rate of update `step`, with 0 <= step < max_steps.

        It rises as (step + 1) / (warmup_steps + 1), so the first update already moves the weights,
        and is 1 at `step == warmup_steps`.
        """
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        span = max_steps - self.warmup_steps
        return self.curve(min(1.0, (step - self.warmup_steps) / span) if span > 0 else 0.0)

    @abstractmethod
    def curve(self, progress: float) -> float:
        """The factor after warm-up, at `progress` from 0 (its first step) to 1 (the run's end)."""


@register("schedule", "cosine")
class Cosine(Schedule):
    """f + (1 - f) (1 + cos(pi p)) / 2, half a cosine down to f = final_fraction (Loshchilov, Hutter 2017).

    Args:
        warmup_steps: updates before the learning rate is whole.
        final_fraction: what is left of it at the end.
    """

    def __init__(self, *, warmup_steps: int = 100, final_fraction: float = 0.1) -> None:
        super().__init__(warmup_steps=warmup_steps, final_fraction=final_fraction)

    def curve(self, progress: float) -> float:
        return self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * progress)) / 2


@register("schedule", "linear")
class Linear(Schedule):
    """1 - (1 - f) p, a straight line down to f = final_fraction.

    Args:
        warmup_steps: updates before the learning rate is whole.
        final_fraction: what is left of it at the end.
    """

    def __init__(self, *, warmup_steps: int = 100, final_fraction: float = 0.0) -> None:
        super().__init__(warmup_steps=warmup_steps, final_fraction=final_fraction)

    def curve(self, progress: float) -> float:
        return 1 - (1 - self.final_fraction) * progress


@register("schedule", "constant")
class Constant(Schedule):
    """The same learning rate to the end.

    Args:
        warmup_steps: updates before the learning rate is whole.
    """

    def __init__(self, *, warmup_steps: int = 100) -> None:
        super().__init__(warmup_steps=warmup_steps, final_fraction=1.0)

    def curve(self, progress: float) -> float:
        return 1.0


@register("schedule", "wsd")
class WarmupStableDecay(Schedule):
    """Warm-up, then whole, then down to f = final_fraction over the run's last part (Hu et al. 2024).

    With d the progress within that part: `linear` is 1 - (1 - f) d, `sqrt` is 1 - (1 - f) sqrt(d)
    (Hägele et al. 2024).

    Args:
        warmup_steps: updates before the learning rate is whole.
        decay_fraction: the part of all steps, at the end, over which it falls.
        final_fraction: what is left of it at the end.
        shape: the form of the fall.
    """

    def __init__(
        self,
        *,
        warmup_steps: int = 100,
        decay_fraction: float = 0.2,
        final_fraction: float = 0.0,
        shape: Literal["linear", "sqrt"] = "linear",
    ) -> None:
        rule = ("decay_fraction", decay_fraction, "a number from 0 to 1", 0 <= decay_fraction <= 1)
        super().__init__(rule, warmup_steps=warmup_steps, final_fraction=final_fraction)
        self.decay_fraction, self.shape = decay_fraction, shape

    def factor(self, step: int, max_steps: int) -> float:
        """As of `Schedule.factor`; a fall that would begin during warm-up begins when that ends."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        start = max(self.warmup_steps, max_steps - self.decay_fraction * max_steps)
        return self.curve(min(1.0, (step - start) / (max_steps - start)) if step > start else 0.0)

    def curve(self, progress: float) -> float:
        fall = math.sqrt(progress) if self.shape == "sqrt" else progress
        return 1 - (1 - self.final_fraction) * fall
