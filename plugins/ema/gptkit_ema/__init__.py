"""An average of the weights, kept beside any optimizer; validated, sampled from and saved in their place."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gptkit.errors import check_options
from gptkit.registry import register
from gptkit.train.callbacks import Callback
from gptkit.train.meter import StepOutcome


@register("callback", "ema")
class Ema(Callback):
    """Judges a run by an average of its weights (Polyak and Juditsky 1992; Kingma and Ba 2015, 7.2).

    e = e + max(1 - decay, 1 / t) (w - e) after update t: first the plain mean of all weights so far,
    later the exponential average of about the last 1 / (1 - decay). What is trained does not change;
    what is validated, sampled from and saved as the model is e.

    Args:
        decay: the share of the average that stays at each update.
    """

    def __init__(self, *, decay: float = 0.999) -> None:
        check_options("callback.ema", ("decay", decay, "a number from 0 to below 1", 0 <= decay < 1))
        self.decay = decay

    def start(self, model: nn.Module, rows: list[dict[str, Any]]) -> None:
        if not self.state:
            self.state = {weight: {"average": weight.detach().clone()} for weight in model.parameters()}

    @torch.no_grad()
    def after_step(self, outcome: StepOutcome) -> bool:
        share = max(1 - self.decay, 1 / outcome.step)
        for weight, kept in self.state.items():
            kept["average"].lerp_(weight, share)
        return False

    def eval(self) -> None:
        self._swap("average", "trained")

    def train(self) -> None:
        self._swap("trained", "average")

    @torch.no_grad()
    def _swap(self, wanted: str, other: str) -> None:
        """Exchange the weights with what is kept as `wanted`, and keep them as `other`."""
        for weight, kept in self.state.items():
            kept[other] = weight.detach().clone()
            weight.copy_(kept.pop(wanted))
