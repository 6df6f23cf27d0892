"""How gradients become updates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gptkit.errors import check_options
from gptkit.model.interfaces import roles
from gptkit.registry import register

DECAYED = frozenset({"weight", "residual", "embedding"})
FUSED_ON = frozenset({"cpu", "cuda", "mps", "xpu"})


@register("optimizer", "adamw")
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), on matrices and embeddings alone.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
    w = w (1 - lr decay) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Args:
        lr: the learning rate, before the schedule's factor.
        betas: b1 and b2, how long the two averages remember.
        eps: keeps the quotient finite.
        weight_decay: decay of matrices and embeddings; norms and biases never decay.
        fused: one kernel for all parameters; null takes it where the device has one.
    """

    def __init__(
        self,
        *,
        lr: float = 1e-3,
        betas: list[float] = [0.9, 0.95],  # noqa: B006 - read as plain data, never changed
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        fused: bool | None = None,
    ) -> None:
        check_options("optimizer", *usual_rules(lr, betas, weight_decay, eps))
        self.lr, self.betas, self.eps = lr, (betas[0], betas[1]), eps
        self.weight_decay, self.fused = weight_decay, fused

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model whose parameters are where they will be trained."""
        groups = decay_groups(model, self.weight_decay)
        fused = can_fuse(model) if self.fused is None else self.fused
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=fused)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer: those that decay, then those that do not.

    A parameter decays if its role is weight, residual or embedding; see `interfaces.roles`.
    """
    kinds = roles(model)
    split: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            split[kinds[name] in DECAYED].append(parameter)
    decays = ((True, weight_decay), (False, 0.0))
    return [{"params": split[key], "weight_decay": decay} for key, decay in decays if split[key]]


def can_fuse(model: nn.Module) -> bool:
    """Whether torch has a fused kernel for where the parameters are, and of what type."""
    return all(p.device.type in FUSED_ON and p.is_floating_point() for p in model.parameters())


def usual_rules(
    lr: float, betas: list[float], weight_decay: float, eps: float = 0.0
) -> Iterator[tuple[str, object, str, bool]]:
    """What the options that most optimizers share may be, as rules of `check_options`."""
    two = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
    yield "lr", lr, "a number of at least 0", lr >= 0
    yield "betas", betas, "two numbers from 0 to below 1", two
    yield "eps", eps, "a number of at least 0", eps >= 0
    yield "weight_decay", weight_decay, "a number of at least 0", weight_decay >= 0
