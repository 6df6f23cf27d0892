"""Attention without a softmax: each key is weighed by itself."""

from __future__ import annotations

import math

from torch import Tensor

from gptkit.model.attention import PatternAttention
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding, Step
from gptkit.model.kernels import exact
from gptkit.registry import register


@register("model.attention", "sigmoid")
class Sigmoid(PatternAttention):
    """sigmoid(score - log n) v, n the context length (Ramapuram et al. 2024).

    Keys do not compete: a token may read all of them or none. The bias -log n makes the weights of n
    keys sum to about one at first, as those of a softmax do.

    Args:
        shift: added to each score; null takes -log(context_length).
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
        shift: float | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__(shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale)
        self.shift = -math.log(shape.context_length) if shift is None else shift

    def pattern(self, scores: Tensor, allowed: Tensor, step: Step) -> Tensor:
        weights = (scores.to(exact(scores.dtype)) + self.shift).sigmoid().to(scores.dtype)
        return weights.masked_fill(~allowed, 0.0)
