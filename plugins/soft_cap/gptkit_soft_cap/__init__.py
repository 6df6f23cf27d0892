"""Attention whose scores are bent, so that none passes a cap."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gptkit.errors import UserError
from gptkit.model.attention import GroupedQuery
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding, Step
from gptkit.model.kernels import allowed, score_bias
from gptkit.registry import register


@register("model.attention", "soft_capped")
class SoftCapped(GroupedQuery):
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
        super().__init__(
            shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale, kernel="eager"
        )
        if cap <= 0:
            raise UserError(f"soft_capped: cap={cap}; scores are bent below it, so it must be above 0.")
        self.cap = cap

    def read(self, q: Tensor, k: Tensor, v: Tensor, step: Step) -> Tensor:
        groups, may = self.heads // self.kv_heads, allowed(step, self.mask)
        full_k, full_v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        scores = self.cap * torch.tanh(self.scale * (q @ full_k.transpose(-2, -1)) / self.cap)
        bias = score_bias(q, k, step, self.position)
        scores = (scores if bias is None else scores + bias).masked_fill(~may, float("-inf"))
        exact = torch.float32 if scores.dtype in (torch.bfloat16, torch.float16) else scores.dtype
        pattern = scores.softmax(-1, dtype=exact).masked_fill(~may, 0.0).to(q.dtype)
        if step.patterns is not None:
            step.patterns.append(pattern)
        return F.dropout(pattern, self.dropout, self.training) @ full_v
