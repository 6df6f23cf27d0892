"""Attention whose scores are bent, so that none passes a cap."""

from __future__ import annotations

import torch
from torch import Tensor

from gptkit.errors import UserError
from gptkit.model.attention import PatternAttention
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding
from gptkit.registry import register


@register("model.attention", "soft_capped")
class SoftCapped(PatternAttention):
    """softmax(cap tanh(score / cap)) v: small scores pass, large ones near the cap (Gemma 2, 2024).

    The position's bias is added to the bent score.

    Args:
        cap: no score of q and k goes beyond it.
        bias: whether the linear maps have biases.
        out_bias: whether the map back has one; null takes `bias`.
        dropout: rate on the attention pattern.
        scale: factor on q k^T; null takes 1 / sqrt(d_head).
    """

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        cap: float = 50.0,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__(shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale)
        if cap <= 0:
            raise UserError(f"soft_capped: cap={cap}; scores are bent below it, so it must be above 0.")
        self.cap = cap

    def bend(self, scores: Tensor) -> Tensor:
        return self.cap * torch.tanh(scores / self.cap)
