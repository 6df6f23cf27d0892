"""Lion: every weight moves by the same amount, by the sign of its momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gptkit.errors import check_options
from gptkit.registry import register
from gptkit.train.optimizers import decay_groups, usual_rules


@register("optimizer", "lion")
class Lion:
    """The sign of an average of gradients, found by searching programs (Chen et al. 2023, algorithm 2).

    w = w (1 - lr decay) - lr sign(b1 m + (1 - b1) g);  then m = b2 m + (1 - b2) g

    Every weight moves by lr at each step, so lr is 3 to 10 times smaller than AdamW's and the decay as
    many times larger; it keeps one average where AdamW keeps two.

    Args:
        lr: the size of a step, before the schedule's factor.
        betas: b1, how much of the average is in a step, and b2, how long it remembers.
        weight_decay: decay of matrices and embeddings; norms and biases never decay.
    """

    def __init__(
        self,
        *,
        lr: float = 1e-4,
        betas: list[float] = [0.95, 0.98],  # noqa: B006 - read as plain data, never changed
        weight_decay: float = 1.0,
    ) -> None:
        check_options("optimizer", *usual_rules(lr, betas, weight_decay))
        self.lr, self.betas, self.weight_decay = lr, (betas[0], betas[1]), weight_decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model whose parameters are where they will be trained."""
        return BySign(decay_groups(model, self.weight_decay), lr=self.lr, betas=self.betas)


class BySign(torch.optim.Optimizer):
    """Lion for groups of parameters, each with a `weight_decay`."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, (b1, b2) = group["lr"], group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "average" not in state:
                    state["average"] = torch.zeros_like(weight)
                step = state["average"].lerp(weight.grad, 1 - b1).sign_()
                weight.mul_(1 - lr * group["weight_decay"]).add_(step, alpha=-lr)
                state["average"].lerp_(weight.grad, 1 - b2)
        return loss
