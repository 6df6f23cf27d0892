"""Attention as the difference of two patterns, so that what both see falls away."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from gptkit.errors import UserError, check_options
from gptkit.model.attention import GroupedQuery
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding, Step
from gptkit.model.kernels import attend
from gptkit.model.options import eps_rule, pattern_rules
from gptkit.registry import register


@register("model.attention", "differential")
class Differential(GroupedQuery):
    """(softmax(q1 k1^T) - lambda softmax(q2 k2^T)) v, two heads of queries and keys to each of values (Ye et al. 2024).

    Each pair is normalised by its root mean square and multiplied by 1 - l0. One lambda a layer,
    lambda = exp(a1 . b1) - exp(a2 . b2) + l0 with learned vectors, where l0 = 0.8 - 0.6 exp(-0.3 layer).
    The first half of the heads are the q1 and k1, the second half the q2 and k2.

    Args:
        bias: whether the linear maps have biases.
        out_bias: whether the map back has one; null takes `bias`.
        dropout: rate on the attention patterns.
        scale: factor on q k^T; null takes 1 / sqrt(d_head).
        eps: added to the mean square.
        kernel: sdpa (fused), eager (the formula as written) or flex (compiled, CUDA).

    Raises:
        UserError: an odd number of heads, or of heads of keys.
    """

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        bias: bool = False,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
        eps: float = 1e-5,
        kernel: Literal["sdpa", "eager", "flex"] = "sdpa",
    ) -> None:
        check_options("model.attention", eps_rule(eps), *pattern_rules(dropout, scale))
        super().__init__(
            shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale, kernel=kernel
        )
        if self.heads % 2 or self.kv_heads % 2:
            raise UserError(
                f"differential pairs heads, but model.n_heads={self.heads} and n_kv_heads={self.kv_heads}. "
                "Take even numbers."
            )
        self.start = 0.8 - 0.6 * math.exp(-0.3 * shape.layer)
        self.vectors = nn.Parameter(torch.zeros(4 * self.d_head))  # a1, b1, a2, b2
        self.norm = nn.RMSNorm(2 * self.d_head, eps)

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """The four vectors start near nought, so that lambda starts near l0."""
        if name != "vectors":
            return False
        tensor.normal_(0.0, 0.1, generator=generator)
        return True

    def read(self, q: Tensor, k: Tensor, v: Tensor, step: Step) -> Tensor:
        pairs = torch.cat(v.chunk(2, dim=1), dim=-1)  # [B, Hkv / 2, S, 2 Dh]
        y = attend(
            q, k, pairs.repeat(1, 2, 1, 1), step, position=self.position, mask=self.mask, scale=self.scale,
            dropout=self.dropout if self.training else 0.0, kernel=self.kernel,
        )  # fmt: skip
        one, other = y.chunk(2, dim=1)
        y = self.norm(one - self.weight() * other) * (1 - self.start)
        return torch.cat(y.chunk(2, dim=-1), dim=1)  # [B, H, T, Dh], as the map back takes it

    def weight(self) -> Tensor:
        """lambda, a scalar."""
        a1, b1, a2, b2 = self.vectors.chunk(4)
        return (a1 * b1).sum().exp() - (a2 * b2).sum().exp() + self.start
