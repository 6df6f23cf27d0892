"""Shaw's relative positions: a query also meets a learned vector for the distance to each key."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit.errors import UserError
from gptkit.model.interfaces import ModelShape, PositionalEncoding
from gptkit.registry import register


@register("model.position", "shaw")
class Shaw(PositionalEncoding):
    """score + q . a[clip(j - i, -K, K)] / sqrt(d_head), vectors shared by all heads (Shaw et al. 2018).

    The paper's second set of vectors, which it adds to the values and finds of no use, is left out.

    Args:
        max_distance: K; what is farther has the vector of K.
    """

    is_relative = True

    def __init__(self, shape: ModelShape, *, max_distance: int = 16) -> None:
        super().__init__()
        if max_distance < 1:
            raise UserError(f"shaw: max_distance={max_distance}; it must be 1 or more to tell any order.")
        self.max_distance, self.scale = max_distance, shape.d_head**-0.5
        self.weight = nn.Parameter(torch.zeros(2 * max_distance + 1, shape.d_head))

    def score_bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        met = self.scale * (q @ self.weight.t())  # [B, H, T, 2K + 1]
        away = k_positions.unsqueeze(-2) - q_positions.unsqueeze(-1)  # [1|B, T, S]
        row = away.clamp(-self.max_distance, self.max_distance) + self.max_distance
        return met.gather(-1, row.unsqueeze(1).expand(*met.shape[:3], -1))
