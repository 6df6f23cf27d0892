"""Sandwich: the inner product of two sinusoidal encodings, added to the scores."""

from __future__ import annotations

import torch
from torch import Tensor

from gptkit.errors import UserError, check_options
from gptkit.model.interfaces import DistanceBias, ModelShape, float_positions
from gptkit.model.options import base_rule
from gptkit.registry import register


@register("model.position", "sandwich")
class Sandwich(DistanceBias):
    """bias_h(m - n) = sum_i cos((m - n) / base^(2i / width)) / (8 h / H), h = 1 .. H (Chi et al. 2022).

    What is left of two sinusoidal encodings when only their product with one another is kept: it falls
    with the logarithm of the distance. Nothing is learned, and it has no end.

    Args:
        width: of the encodings; their product sums over width / 2 frequencies.
        base: the slowest wave is almost base * 2 pi positions long.
    """

    def __init__(self, shape: ModelShape, *, width: int = 128, base: float = 10000.0) -> None:
        super().__init__()
        check_options("model.position", base_rule(base))
        if width < 2 or width % 2:
            raise UserError(
                f"sandwich: width={width}; sines and cosines come in pairs, so take an even number."
            )
        self.heads, self.width, self.base = shape.n_heads, width, base

    def bias_of(self, distance: Tensor) -> Tensor:
        exact = float_positions(distance)
        pair = torch.arange(0, self.width, 2, device=distance.device, dtype=exact.dtype)
        product = (exact.unsqueeze(-1) * self.base ** (-pair / self.width)).cos().sum(-1)  # [...]
        ratio = 8 / self.heads * torch.arange(1, self.heads + 1, device=distance.device, dtype=exact.dtype)
        return product / ratio.view(-1, *[1] * product.ndim)
