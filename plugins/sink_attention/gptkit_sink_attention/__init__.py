"""Attention that may look at nothing: each head has a sink that takes part in the softmax and gives no value."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.model.attention import GroupedQuery
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding, Step
from gptkit.model.kernels import allowed, score_bias
from gptkit.registry import register


@register("model.attention", "sinks")
class Sinks(GroupedQuery):
    """exp(score_j) / (exp(s) + sum_k exp(score_k)), with a learned s for each head (gpt-oss 2025; Miller 2023).

    A token that finds nothing to read gives its attention to the sink; softmax alone makes it read something.

    Args:
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
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__(
            shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale, kernel="eager"
        )
        self.sinks = nn.Parameter(torch.zeros(self.heads))

    def read(self, q: Tensor, k: Tensor, v: Tensor, step: Step) -> Tensor:
        groups, may = self.heads // self.kv_heads, allowed(step, self.mask)
        full_k, full_v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        scores, bias = self.scale * (q @ full_k.transpose(-2, -1)), score_bias(q, k, step, self.position)
        scores = (scores if bias is None else scores + bias).masked_fill(~may, float("-inf"))
        sink = self.sinks.view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        exact = torch.float32 if scores.dtype in (torch.bfloat16, torch.float16) else scores.dtype
        pattern = (
            torch.cat([scores, sink.to(scores.dtype)], dim=-1).softmax(-1, dtype=exact)[..., :-1].to(q.dtype)
        )
        if step.patterns is not None:
            step.patterns.append(pattern)
        return F.dropout(pattern, self.dropout, self.training) @ full_v
