"""Attention whose queries and keys are normalised, so that no score can grow without bound."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gptkit.errors import check_options
from gptkit.model.attention import GroupedQuery
from gptkit.model.interfaces import Mask, ModelShape, Norm, PositionalEncoding, Step
from gptkit.model.options import eps_rule, pattern_rules
from gptkit.registry import register


@register("model.attention", "qk_norm")
class QKNorm(GroupedQuery):
    """softmax(rms(q) rms(k)^T / sqrt(d_head)) v, normalised before positions turn them (Henry et al. 2020).

    Each head is normalised by itself with one gain for all heads (Qwen 3, Gemma 3), or the whole
    projection at once (OLMo 2).

    Args:
        per_head: normalise each head by itself; false normalises all heads together.
        eps: added to the mean square.
        offset: the gain is offset + w, w starting at 1 - offset (Gemma: 1).
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
        per_head: bool = True,
        eps: float = 1e-6,
        offset: float = 0.0,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
        kernel: Literal["sdpa", "eager", "flex"] = "sdpa",
    ) -> None:
        check_options("model.attention", eps_rule(eps), *pattern_rules(dropout, scale))
        super().__init__(
            shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale, kernel=kernel
        )
        widths = (1, 1) if per_head else (self.heads, self.kv_heads)
        self.q_norm = _RMS(widths[0] * self.d_head, eps, offset)
        self.k_norm = _RMS(widths[1] * self.d_head, eps, offset)

    def place(self, q: Tensor, k: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        return super().place(self.q_norm(q), self.k_norm(k), step)


class _RMS(Norm):
    """x / sqrt(mean(x^2) + eps) times a gain, over the last axis or over heads and it: x is [B, H, T, Dh]."""

    def __init__(self, width: int, eps: float, offset: float) -> None:
        super().__init__()
        self.eps, self.offset = eps, offset
        self.weight = nn.Parameter(torch.full((width,), 1.0 - offset))

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """The gain starts at one."""
        tensor.fill_(1.0 - self.offset)
        return True

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        together = self.weight.shape[0] != width
        square = (
            wide.square().mean((1, 3), keepdim=True) if together else wide.square().mean(-1, keepdim=True)
        )
        gain = self.offset + self.weight.to(wide.dtype)
        gain = gain.view(1, -1, 1, width) if together else gain
        return (wide * torch.rsqrt(square + self.eps) * gain).to(x.dtype)
