"""Schedule-free AdamW: an average of the weights takes the place of a falling learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gptkit.errors import check_options
from gptkit.registry import register
from gptkit.train.optimizers import decay_groups, usual_rules


@register("optimizer", "schedule_free")
class ScheduleFree:
    """AdamW whose weights are an average, so that the rate need not fall (Defazio et al. 2024, algorithm 1).

    y = (1 - b1) z + b1 x, where the gradient g is taken;  v = b2 v + (1 - b2) g^2
    z = z - r g / (sqrt(v) + eps) - r decay y, with r = lr sqrt(1 - b2^t)
    x = (1 - c) x + c z, with c = r^2 / (sum of all r^2 so far)

    x is validated, sampled from and saved. Goes with schedule=constant, whose warm-up it needs.

    Args:
        lr: the learning rate, before the schedule's factor.
        betas: b1, how near the average gradients are taken, and b2, how long that of squares remembers.
        eps: keeps the quotient finite.
        weight_decay: decay of matrices and embeddings; norms and biases never decay.
    """

    def __init__(
        self,
        *,
        lr: float = 2.5e-3,
        betas: list[float] = [0.9, 0.95],  # noqa: B006 - read as plain data, never changed
        eps: float = 1e-8,
        weight_decay: float = 0.1,
    ) -> None:
        check_options("optimizer", *usual_rules(lr, betas, weight_decay, eps))
        self.lr, self.betas, self.eps, self.weight_decay = lr, (betas[0], betas[1]), eps, weight_decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model whose parameters are where they will be trained."""
        return Averaging(decay_groups(model, self.weight_decay), lr=self.lr, betas=self.betas, eps=self.eps)


class Averaging(torch.optim.Optimizer):
    """Schedule-free AdamW for groups of parameters, each with a `weight_decay`.

    Parameters are y while it trains and x after `eval`. State of each: `average` x, `fast` z, `square`
    v, `step` t and `weights`, the sum of r^2. y is worked out from x and z alone, so it comes back
    the same to the last bit, however often a run is validated, saved or resumed.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, self.state[weight], group)
        return loss

    def _update(
        self, y: torch.Tensor, grad: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        b1, b2 = group["betas"]
        if "step" not in state:
            start, none = y.detach().clone(), torch.zeros_like(y)
            state.update(step=0, weights=0.0, average=start, fast=start.clone(), square=none)
        state["step"] += 1
        rate = group["lr"] * (1 - b2 ** state["step"]) ** 0.5
        state["weights"] += rate**2
        state["square"].mul_(b2).addcmul_(grad, grad, value=1 - b2)
        state["fast"].addcdiv_(grad, state["square"].sqrt().add_(group["eps"]), value=-rate)
        state["fast"].add_(y, alpha=-rate * group["weight_decay"])
        if state["weights"] > 0:  # a rate of 0 moves nothing
            state["average"].lerp_(state["fast"], rate**2 / state["weights"])
        y.copy_(state["fast"].lerp(state["average"], b1))

    @torch.no_grad()
    def eval(self) -> None:
        """Put the averages, which are to be used, in the place of the weights."""
        for weight, state in self.state.items():
            weight.copy_(state["average"])

    @torch.no_grad()
    def train(self) -> None:
        """Put the weights back at which gradients are taken."""
        for group in self.param_groups:
            for weight in group["params"]:
                if state := self.state.get(weight):
                    weight.copy_(state["fast"].lerp(state["average"], group["betas"][0]))
