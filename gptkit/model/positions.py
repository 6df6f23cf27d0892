"""Where a token stands: the position encodings of the explainer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.errors import check_options
from gptkit.model.interfaces import ModelShape, PositionalEncoding, float_positions
from gptkit.model.options import base_rule, count_rule
from gptkit.registry import register


@register("model.position", "none")
class NoPosition(PositionalEncoding):
    """No encoding: only a causal mask tells order (Haviv et al. 2022)."""

    is_relative = True

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()


@register("model.position", "sinusoidal")
class Sinusoidal(PositionalEncoding):
    """Sines and cosines of the position, of falling frequency (Vaswani et al. 2017, section 3.5).

    e(pos)_j = sin(pos / base^(j/d)) where j is even, cos(pos / base^((j-1)/d)) where j is odd;
    added to the token's vector. Defined at every position.

    Args:
        base: the slowest wave is almost base * 2 pi positions long.
    """

    def __init__(self, shape: ModelShape, *, base: float = 10000.0) -> None:
        super().__init__()
        check_options("model.position", base_rule(base))
        self.base = base

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + self.table(positions, x.shape[-1]).to(x.dtype)

    def table(self, positions: Tensor, d_model: int) -> Tensor:
        """The encoding of each position: [..., T] -> [..., T, d_model]."""
        j = torch.arange(d_model, device=positions.device)
        pair = float_positions(j - j % 2)  # each sine shares its frequency with the next cosine
        angle = float_positions(positions).unsqueeze(-1) / self.base ** (pair / d_model)
        return torch.where(j % 2 == 0, angle.sin(), angle.cos())


@register("model.position", "learned")
class Learned(PositionalEncoding):
    """One learned vector for each position (GPT-1: Radford et al. 2018); refuses to go past its end.

    Args:
        max_positions: rows of the table; null takes the context length.
    """

    def __init__(self, shape: ModelShape, *, max_positions: int | None = None) -> None:
        super().__init__()
        check_options("model.position", count_rule("max_positions", max_positions))
        self.max_positions = max_positions or shape.context_length
        self.weight = nn.Parameter(torch.empty(self.max_positions, shape.d_model))
        self.gptkit_role = "embedding"

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + F.embedding(positions, self.weight)
