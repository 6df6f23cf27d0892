"""Contextual positions: a token counts those before it that matter, and not all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit.errors import UserError
from gptkit.model.interfaces import ModelShape, PositionalEncoding
from gptkit.registry import register


@register("model.position", "cope")
class CoPE(PositionalEncoding):
    """bias_ij = q_i . e[p_ij], p_ij = sum_{l = j..i} sigmoid(q_i . k_l / sqrt(d)) (Golovneva et al. 2024).

    The position of a key is how many tokens from it on the query's own gates let through, so it may
    count words or sentences. Between two whole numbers the vectors e are interpolated; what is farther
    than the last has the last. Keys after the query, where a mask shows them, all stand at 0.

    Args:
        max_count: vectors beyond e[0].
    """

    is_relative = True

    def __init__(self, shape: ModelShape, *, max_count: int = 64) -> None:
        super().__init__()
        if max_count < 1:
            raise UserError(f"cope: max_count={max_count}; it must be 1 or more to tell any order.")
        self.max_count, self.scale = max_count, shape.d_head**-0.5
        self.weight = nn.Parameter(torch.zeros(max_count + 1, shape.d_head))

    def score_bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        new, held = q.shape[2], k.shape[2]  # the queries are the last of the keys
        gates = (self.scale * (q @ k.transpose(-2, -1))).sigmoid().tril(held - new)  # [B, H, T, S]
        count = gates.flip(-1).cumsum(-1).flip(-1).clamp(max=self.max_count)
        met = q @ self.weight.t()  # [B, H, T, max_count + 1]
        below = count.detach().floor().long()
        share = count - below
        above = (below + 1).clamp(max=self.max_count)
        return met.gather(-1, below) * (1 - share) + met.gather(-1, above) * share
