"""SOAP: Adam, along axes in which the gradient of a matrix is nearly uncorrelated."""

from __future__ import annotations

from torch import nn

from gptkit.errors import check_options
from gptkit.registry import register
from gptkit.train.optimizers import decay_groups, usual_rules
from gptkit_soap.rotated import Rotated


@register("optimizer", "soap")
class Soap:
    """Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, algorithm 3).

    L = b2 L + (1 - b2) G G^T;  R = b2 R + (1 - b2) G^T G;  Q_L, Q_R their eigenvectors, now and then
    M = b1 M + (1 - b1) G;  V = b2 V + (1 - b2) (Q_L^T G Q_R)^2, number by number
    W = W (1 - lr decay) - lr Q_L [(Q_L^T M Q_R) / (1 - b1^t) / (sqrt(V / (1 - b2^t)) + eps)] Q_R^T

    What is no matrix has no axes but its own, and is AdamW's. The first gradient of a matrix lays
    out its axes and moves nothing, as in the authors' code: along them it has no second component.

    Args:
        lr: the learning rate, before the schedule's factor.
        betas: b1 and b2, how long the average of gradients, and those of squares and axes, remember.
        eps: keeps the quotient finite.
        weight_decay: decay of matrices and embeddings; norms and biases never decay.
        every: updates from one look at the axes to the next.
        max_size: a longer side, such as a large vocabulary, keeps its own axes.
    """

    def __init__(
        self,
        *,
        lr: float = 3e-3,
        betas: list[float] = [0.95, 0.95],  # noqa: B006 - read as plain data, never changed
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        every: int = 10,
        max_size: int = 10000,
    ) -> None:
        check_options(
            "optimizer",
            *usual_rules(lr, betas, weight_decay, eps),
            ("every", every, "at least 1", every >= 1),
            ("max_size", max_size, "at least 0", max_size >= 0),
        )
        self.lr, self.betas, self.eps = lr, (betas[0], betas[1]), eps
        self.weight_decay, self.every, self.max_size = weight_decay, every, max_size

    def build(self, model: nn.Module) -> Rotated:
        """The optimizer of a model whose parameters are where they will be trained."""
        return Rotated(
            decay_groups(model, self.weight_decay), lr=self.lr, betas=self.betas, eps=self.eps,
            every=self.every, max_size=self.max_size,
        )  # fmt: skip
