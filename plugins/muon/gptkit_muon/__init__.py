"""Muon: each matrix moves along its momentum made orthogonal, all else by AdamW."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from gptkit.errors import check_options
from gptkit.model.interfaces import Embedding, Head, PositionalEncoding, roles
from gptkit.registry import register
from gptkit.train.optimizers import AdamW, can_fuse, decay_groups, usual_rules
from gptkit_muon.orthogonal import Orthogonal
from gptkit_muon.together import Together


@register("optimizer", "muon")
class Muon:
    """Momentum made orthogonal for the matrices inside the model, AdamW for all else (Jordan et al. 2024).

    M = momentum M + (1 - momentum) G;  N = momentum M + (1 - momentum) G, or M without nesterov
    W = W (1 - lr decay) - lr s U V^T, where N = U S V^T, nearly, by Newton-Schulz iterations

    Every direction of a matrix so gets a step of one size, however weak its gradient. For a matrix of
    R x C, s is 0.2 sqrt(max(R, C)) (adamw: Liu et al. 2025) or sqrt(max(1, R / C)) (jordan).

    Args:
        lr: the learning rate of the matrices, before the schedule's factor.
        momentum: how long the average of gradients remembers.
        nesterov: look one step ahead along the momentum.
        iterations: Newton-Schulz steps.
        scale: adamw makes steps as large as AdamW's, so its rates serve; jordan is the first code's.
        weight_decay: decay of matrices and embeddings; norms and biases never decay.
        adamw_lr: the learning rate of embeddings, head, norms and biases; null takes lr.
        betas: how long AdamW's two averages remember.
        eps: keeps AdamW's quotient finite.
        bf16: iterate in bfloat16; null does so on CUDA, where it is fast, and elsewhere as the weights.
    """

    def __init__(
        self,
        *,
        lr: float = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        iterations: int = 5,
        scale: Literal["adamw", "jordan"] = "adamw",
        weight_decay: float = 0.1,
        adamw_lr: float | None = None,
        betas: list[float] = [0.9, 0.95],  # noqa: B006 - read as plain data, never changed
        eps: float = 1e-8,
        bf16: bool | None = None,
    ) -> None:
        check_options(
            "optimizer",
            *usual_rules(lr, betas, weight_decay, eps),
            ("momentum", momentum, "a number from 0 to below 1", 0 <= momentum < 1),
            ("iterations", iterations, "at least 1", iterations >= 1),
            ("adamw_lr", adamw_lr, "null or a number of at least 0", adamw_lr is None or adamw_lr >= 0),
        )
        self.rest = AdamW(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        self.lr, self.adamw_lr, self.weight_decay = lr, lr if adamw_lr is None else adamw_lr, weight_decay
        self.momentum, self.nesterov, self.iterations = momentum, nesterov, iterations
        self.scale, self.bf16 = scale, bf16

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model whose parameters are where they will be trained."""
        inside = matrices(model)
        own = set(inside)
        others = [
            {**group, "params": rest}
            for group in decay_groups(model, self.weight_decay)
            if (rest := [p for p in group["params"] if p not in own])
        ]
        parts: list[torch.optim.Optimizer] = []
        if inside:
            parts.append(
                Orthogonal(
                    inside, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, scale=self.scale,
                    iterations=self.iterations, weight_decay=self.weight_decay, bf16=self.bf16,
                )
            )  # fmt: skip
        if others:
            rest = self.rest
            parts.append(
                torch.optim.AdamW(
                    others, lr=self.adamw_lr, betas=rest.betas, eps=rest.eps, fused=can_fuse(model)
                )
            )
        return parts[0] if len(parts) == 1 else Together(parts)


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """The maps inside a model: matrices of no embedding, head or position encoding."""
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
        if p.requires_grad and p.ndim == 2 and kinds[name] in ("weight", "residual") and id(p) not in outside
    ]
