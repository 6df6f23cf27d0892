"""Disentangled attention: content meets place, and place meets content."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit.errors import UserError, check_options
from gptkit.model.interfaces import ModelShape, PositionalEncoding
from gptkit.registry import register


@register("model.position", "disentangled")
class Disentangled(PositionalEncoding):
    """(q_i . kr[i - j] + k_j . qr[j - i]) * scale, distances clipped to [-K, K) (DeBERTa: He et al. 2020).

    To the score of content with content it adds content to place (c2p) and place to content (p2c), with
    a table of keys kr and one of queries qr for each head. The paper makes both tables from one by a map
    in each layer, and divides all three terms by sqrt(3 d): take model.attention.scale and `scale` so.

    Args:
        max_distance: K; what is farther has the vectors of the farthest.
        content_to_place: whether the query's content meets the distance.
        place_to_content: whether the key's content meets the distance.
        scale: factor on both; null takes 1 / sqrt(d_head), as attention.
    """

    is_relative = True

    def __init__(
        self,
        shape: ModelShape,
        *,
        max_distance: int = 32,
        content_to_place: bool = True,
        place_to_content: bool = True,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        if max_distance < 1 or not (content_to_place or place_to_content):
            raise UserError(
                f"disentangled: max_distance={max_distance}, content_to_place={content_to_place}, "
                f"place_to_content={place_to_content}; it tells no order. "
                "Take a distance of 1 or more, and one of the two."
            )
        check_options(
            "model.position", ("scale", scale, "a number above 0, or null", scale is None or scale > 0)
        )
        self.max_distance, self.heads = max_distance, shape.n_heads
        self.scale = shape.d_head**-0.5 if scale is None else scale
        rows = (2 * max_distance, shape.n_heads * shape.d_head)
        self.keys = nn.Parameter(torch.zeros(rows)) if content_to_place else None
        self.queries = nn.Parameter(torch.zeros(rows)) if place_to_content else None

    def score_bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        away = q_positions.unsqueeze(-1) - k_positions.unsqueeze(-2)  # [1|B, T, S]
        bias = q.new_zeros(())
        if self.keys is not None:
            met = q @ self._table(self.keys).transpose(1, 2)  # [B, H, T, 2K]
            bias = bias + met.gather(-1, self._row(away).expand(*met.shape[:3], -1))
        if self.queries is not None:
            k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
            met = k @ self._table(self.queries).transpose(1, 2)  # [B, H, S, 2K]
            row = self._row(-away.transpose(1, 2)).expand(*met.shape[:3], -1)
            bias = bias + met.gather(-1, row).transpose(-2, -1)
        return self.scale * bias

    def _row(self, away: Tensor) -> Tensor:
        """The row of each distance, for all heads."""
        return (away.clamp(-self.max_distance, self.max_distance - 1) + self.max_distance).unsqueeze(1)

    def _table(self, rows: Tensor) -> Tensor:
        """[2K, H * Dh] -> [H, 2K, Dh]."""
        return rows.unflatten(-1, (self.heads, -1)).transpose(0, 1)
