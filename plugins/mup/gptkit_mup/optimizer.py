"""AdamW whose rate for the maps inside falls with the width."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gptkit.errors import check_options
from gptkit.model.interfaces import Embedding, Head, PositionalEncoding, roles
from gptkit.registry import register
from gptkit.train.optimizers import AdamW, can_fuse, decay_groups, usual_rules


@register("optimizer", "mup_adamw")
class MuPAdamW:
    """AdamW with the rates of muP: lr base_width / d_model for the maps inside a model, lr for embeddings,
    positions, head, biases and gains (Yang et al. 2022, table 8).

    Decay of the maps inside is multiplied by d_model / base_width, so that each update takes the same
    share of them at any width.

    Args:
        lr: the learning rate at the base width, before the schedule's factor.
        base_width: the width at which lr was found; the same as of the init and the head.
        betas: how long the two averages remember.
        eps: keeps the quotient finite.
        weight_decay: decay of matrices and embeddings; norms and biases never decay.
        fused: one kernel for all parameters; null takes it where the device has one.
    """

    def __init__(
        self,
        *,
        lr: float = 1e-3,
        base_width: int = 64,
        betas: list[float] = [0.9, 0.95],  # noqa: B006 - read as plain data, never changed
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        fused: bool | None = None,
    ) -> None:
        width = "a width of at least 1, the d_model that lr was found at"
        check_options(
            "optimizer",
            *usual_rules(lr, betas, weight_decay, eps),
            ("base_width", base_width, width, base_width >= 1),
        )
        self.plain = AdamW(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused)
        self.base_width = base_width

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model whose parameters are where they will be trained."""
        plain, inside = self.plain, {id(p) for p in maps_inside(model)}
        width = getattr(
            getattr(model, "shape", None), "d_model", self.base_width
        )  # without a shape: at the base
        ratio = width / self.base_width
        groups: list[dict[str, Any]] = []
        for group in decay_groups(model, plain.weight_decay):
            for within in (False, True):  # first those that have lr itself, which is what a run reports
                chosen = [p for p in group["params"] if (id(p) in inside) == within]
                if chosen and within:
                    decay = group["weight_decay"] * ratio
                    groups.append({"params": chosen, "lr": plain.lr / ratio, "weight_decay": decay})
                elif chosen:
                    groups.append({**group, "params": chosen, "lr": plain.lr})
        fused = can_fuse(model) if plain.fused is None else plain.fused
        return torch.optim.AdamW(groups, lr=plain.lr, betas=plain.betas, eps=plain.eps, fused=fused)


def maps_inside(model: nn.Module) -> list[nn.Parameter]:
    """Parameters with an input and an output that grow with the width: matrices of no embedding, head or
    position encoding."""
    outside = {
        id(p)
        for module in model.modules()
        if isinstance(module, (Embedding, Head, PositionalEncoding))
        for p in module.parameters()
    }
    kinds = roles(model)
    return [
        p
        for name, p in model.named_parameters()
        if p.ndim >= 2 and kinds[name] in ("weight", "residual") and id(p) not in outside
    ]
