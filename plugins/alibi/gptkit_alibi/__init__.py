"""Attention with linear biases: the farther a key, the lower its score."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gptkit.model.interfaces import DistanceBias, ModelShape
from gptkit.registry import register


@register("model.position", "alibi")
class ALiBi(DistanceBias):
    """score - m_h * |distance|, with a slope for each head (Press et al. 2022).

    m_h = 2^(-8h/H) for h = 1..H where the number of heads H is a power of two; otherwise the slopes
    of the power of two below, then every other one of the power of two above, as the paper's code.
    """

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.slopes = slopes(shape.n_heads)
        self._tensor: Tensor | None = None

    def bias_of(self, distance: Tensor) -> Tensor:
        if self._tensor is None or self._tensor.device != distance.device:
            exact = torch.float32 if distance.device.type == "mps" else torch.float64
            self._tensor = torch.tensor(self.slopes, dtype=exact, device=distance.device)
        return -self._tensor.view(-1, *[1] * distance.ndim) * distance.abs()


def slopes(heads: int) -> list[float]:
    """The slope of each head, steepest first."""
    power = 2 ** int(math.log2(heads))
    first = [2.0 ** (-8 * h / power) for h in range(1, power + 1)]
    return first if power == heads else first + slopes(2 * power)[0::2][: heads - power]
