"""Attention that may look at nothing: each head has a sink that takes part in the softmax and gives no value."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit.model.attention import PatternAttention
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding, Step
from gptkit.model.kernels import exact
from gptkit.registry import register


@register("model.attention", "sinks")
class Sinks(PatternAttention):
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
        super().__init__(shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale)
        self.sinks = nn.Parameter(torch.zeros(self.heads))

    def pattern(self, scores: Tensor, allowed: Tensor, step: Step) -> Tensor:
        sink = self.sinks.view(1, -1, 1, 1).expand(*scores.shape[:3], 1).to(scores.dtype)
        scores = torch.cat([scores.masked_fill(~allowed, float("-inf")), sink], dim=-1)
        return scores.softmax(-1, dtype=exact(scores.dtype))[..., :-1].to(scores.dtype)
