"""A head whose logits are bent, so that none passes a cap."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gptkit.errors import UserError
from gptkit.model.heads import LanguageModelHead
from gptkit.model.interfaces import Embedding, ModelShape
from gptkit.registry import register

_CHUNK = 1 << 24  # logits at once: 64 MiB in float32


@register("model.head", "soft_capped")
class SoftCappedHead(LanguageModelHead):
    """cap tanh(logit / cap) (Bello et al. 2017; Gemma 2).

    Args:
        cap: no logit goes beyond it.
        tied: the map is the table of the embedding.
        bias: whether each token has a bias.
    """

    def __init__(
        self,
        shape: ModelShape,
        embedding: Embedding,
        *,
        cap: float = 30.0,
        tied: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__(shape, embedding, tied=tied, bias=bias)
        if cap <= 0:
            raise UserError(f"soft_capped: cap={cap}; logits are bent below it, so it must be above 0.")
        self.cap = cap

    def forward(self, x: Tensor) -> Tensor:
        return self.cap * torch.tanh(super().forward(x) / self.cap)

    def loss(self, x: Tensor, targets: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
        x, targets = x.reshape(-1, x.shape[-1]), targets.reshape(-1)
        rows = max(1, _CHUNK // self.weight.shape[0])
        parts = [  # the logits of a part are made again for its gradient, so that never all of them are held
            checkpoint(self._summed, part, aim, use_reentrant=False)
            for part, aim in zip(x.split(rows), targets.split(rows), strict=True)
        ]
        total = torch.stack(parts).sum()  # type: ignore[arg-type]
        return total if reduction == "sum" else total / (targets != -100).sum().clamp(min=1)

    def _summed(self, x: Tensor, targets: Tensor) -> Tensor:
        logits = self(x)
        exact = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        return F.cross_entropy(exact, targets, ignore_index=-100, reduction="sum")
