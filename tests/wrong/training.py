"""Optimizers, schedules, samplers and callbacks that are wrong on purpose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from gptkit import registry
from gptkit.generate.samplers import Sample
from gptkit.train.callbacks import Callback
from gptkit.train.optimizers import AdamW
from gptkit.train.schedules import Cosine
from wrong import wrong

Ema: Any = registry.load("callback", "ema")


class Optimizer(AdamW):
    def __init__(self, *, weight_decay: float = 0.1) -> None:
        super().__init__(weight_decay=weight_decay)


@wrong("optimizer", "decays_matrices_alone")
class DecaysAll(Optimizer):
    def build(self, model):
        return torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)


@wrong("optimizer", "holds_each_parameter_once")
class LeavesBiases(Optimizer):
    def build(self, model):
        return torch.optim.AdamW([p for p in model.parameters() if p.ndim > 1], lr=1e-3)


@wrong("optimizer", "lowers_the_loss")
class Climbs(Optimizer):
    def build(self, model):
        return torch.optim.AdamW(model.parameters(), lr=1e-3, maximize=True)


@wrong("optimizer", "goes_on_exactly")
class ForgetsItsState(Optimizer):
    def build(self, model):
        made = super().build(model)
        made.load_state_dict = lambda state_dict: None
        return made


@wrong("schedule", "is_a_function_of_the_step")
class CountsItsCalls(Cosine):
    calls = 0

    def factor(self, step, max_steps):
        self.calls += 1
        return min(1.0, self.calls / 1000)


@wrong("schedule", "is_a_function_of_the_step")
class StartsAtNothing(Cosine):
    def factor(self, step, max_steps):
        return 0.0 if step == 0 else super().factor(step, max_steps)


@wrong("sampler", "draws_what_it_says")
class DoesNotSumToOne(Sample):
    def probabilities(self, logits, history=None):
        return 0.9 * super().probabilities(logits, history)


@wrong("sampler", "draws_what_it_says")
class ChangesTheScores(Sample):
    def probabilities(self, logits, history=None):
        logits.div_(2.0)
        return super().probabilities(logits, history)


@wrong("callback", "only_watches")
class LeavesTheStandIn(Ema):
    def train(self):
        pass


@wrong("callback", "only_watches")
class TrainsWhatItWatches(Callback):
    def start(self, model, rows):
        self.model = model

    def after_step(self, outcome):
        with torch.no_grad():
            for weight in self.model.parameters():
                weight.mul_(0.999)
        return False


@wrong("callback", "only_watches")
class SwapsBackRounded(Ema):
    @torch.no_grad()
    def train(self):
        super().train()
        for weight in self.state:
            weight.add_(1.0).sub_(1.0)


@wrong("callback", "is_kept_by_checkpoints")
class AveragesOutOfSight(Ema):
    """Its averages lie where no checkpoint sees them."""

    def start(self, model, rows):
        super().start(model, rows)
        self.hidden, self.state = self.state, {}

    def after_step(self, outcome):
        for weight, kept in self.hidden.items():
            kept["average"].lerp_(weight.detach(), 0.5)
        return False

    @torch.no_grad()
    def eval(self):
        self.trained = {weight: weight.detach().clone() for weight in self.hidden}
        for weight, kept in self.hidden.items():
            weight.copy_(kept["average"])

    @torch.no_grad()
    def train(self):
        for weight, trained in getattr(self, "trained", {}).items():
            weight.copy_(trained)


@wrong("callback", "is_kept_by_checkpoints")
class BeginsAnew(Ema):
    def start(self, model, rows):
        self.state = {}
        super().start(model, rows)


@wrong("callback", "is_kept_by_checkpoints")
class CountsItsUpdates(Ema):
    """How many updates went into the average is in no checkpoint."""

    updates = 0

    def after_step(self, outcome):
        self.updates += 1
        return super().after_step(replace(outcome, step=self.updates))


@wrong("callback", "is_kept_by_checkpoints")
class KeepsOneNumber(Callback):
    """A tensor that has not the shape of its parameter cannot be shared out as it is."""

    def start(self, model, rows):
        self.state = {weight: {"mean": weight.detach().mean()} for weight in model.parameters()}
