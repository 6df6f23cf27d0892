"""A table of learned positions, stretched over longer texts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.errors import UserError, check_options
from gptkit.model.interfaces import ModelShape, PositionalEncoding, float_positions
from gptkit.model.options import count_rule
from gptkit.registry import register


@register("model.position", "interpolated")
class Interpolated(PositionalEncoding):
    """Position p reads a learned table at p / factor, between two rows (Dosovitskiy et al. 2021, section 3.2).

    A model with `learned` positions reads texts `factor` times as long as those of its training: its
    weights fit as they are. With factor=1 it is `learned`. Rotary positions are stretched in the same
    way by rotary_linear (Chen et al. 2023).

    Args:
        factor: how many times longer texts may be than the table.
        max_positions: rows of the table; null takes context_length / factor.

    Raises:
        UserError: a factor below 1.
    """

    def __init__(self, shape: ModelShape, *, factor: float = 2.0, max_positions: int | None = None) -> None:
        super().__init__()
        if factor < 1:
            raise UserError(f"interpolated: factor={factor}; texts become longer, so take 1 or more.")
        check_options("model.position", count_rule("max_positions", max_positions))
        self.factor = factor
        self.rows = max_positions or -(-shape.context_length // max(1, int(factor)))
        self.max_positions = int(self.rows * factor)
        self.weight = nn.Parameter(torch.empty(self.rows, shape.d_model))
        self.gptkit_role = "embedding"

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        at = (float_positions(positions) / self.factor).clamp(max=self.rows - 1)
        row = at.floor()
        share = (at - row).unsqueeze(-1).to(x.dtype)
        below = F.embedding(row.long(), self.weight)
        above = F.embedding((row.long() + 1).clamp(max=self.rows - 1), self.weight)
        return x + below + share * (above - below)
