"""Attention whose result passes a gate that the token itself holds."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from gptkit.model.attention import GroupedQuery
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding, Step
from gptkit.registry import register


@register("model.attention", "gated")
class Gated(GroupedQuery):
    """(attention(x) * sigmoid(x W_g)) W_out, a gate for each number or for each head (Qiu et al. 2025).

    Args:
        per_head: one gate for each head; false: one for each number of it.
        bias: whether the linear maps have biases.
        out_bias: whether the map back has one; null takes `bias`.
        dropout: rate on the attention pattern.
        scale: factor on q k^T; null takes 1 / sqrt(d_head).
        kernel: sdpa (fused), eager (the formula as written) or flex (compiled, CUDA).
    """

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        per_head: bool = False,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
        kernel: Literal["sdpa", "eager", "flex"] = "sdpa",
    ) -> None:
        super().__init__(
            shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale, kernel=kernel
        )
        self.gate = nn.Linear(shape.d_model, self.heads * (1 if per_head else self.d_head), bias=bias)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.project(x)
        q, k = self.place(q, k, step)
        if step.cache is not None:
            k, v = step.cache.append(k, v)
        y = self.read(q, k, v, step)  # [B, H, T, Dh]
        gate = self.gate(x).sigmoid().view(batch, length, self.heads, -1).transpose(1, 2)
        return self.out((y * gate).transpose(1, 2).reshape(batch, length, -1))
