"""Rotary position embedding: queries and keys are turned by an angle that grows with position."""

from __future__ import annotations

import torch
from torch import Tensor

from gptkit.errors import UserError, check_options
from gptkit.model.interfaces import ModelShape, PositionalEncoding, float_positions
from gptkit.model.options import base_rule
from gptkit.registry import register


@register("model.position", "rotary")
class Rotary(PositionalEncoding):
    """Turn each pair of numbers of q and k by position * base^(-2i/d) (Su et al. 2021, section 3.2).

    The score of two tokens then depends on their distance alone, as a product of two turned
    vectors depends on the difference of their angles. Nothing is added to the stream.

    Args:
        base: the slowest pair of numbers turns once in almost base * 2 pi positions.
        fraction: the part of each head that turns; the rest stays as it is (GPT-NeoX: 0.25).
        interleaved: pairs are neighbours (GPT-J); false pairs the two halves (GPT-NeoX, Llama).
    """

    is_relative = True
    strength = 1.0  # of a turned vector beside the one given

    def __init__(
        self, shape: ModelShape, *, base: float = 10000.0, fraction: float = 1.0, interleaved: bool = False
    ) -> None:
        super().__init__()
        check_options("model.position", base_rule(base))
        self.width = round(shape.d_head * fraction)
        if not 0 < self.width <= shape.d_head or self.width % 2:
            raise UserError(
                f"rotary: fraction={fraction} of a head of {shape.d_head} numbers is {self.width}; "
                f"it turns pairs, so it needs an even number from 2 to {shape.d_head}."
            )
        self.base, self.interleaved = base, interleaved
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def rotate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        q_cos, q_sin = self.turns(q_positions, q.dtype)
        k_cos, k_sin = (q_cos, q_sin) if k_positions is q_positions else self.turns(k_positions, k.dtype)
        return self._turn(q, q_cos, q_sin), self._turn(k, k_cos, k_sin)

    def turns(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each pair's angle: [1|B, T] -> two of [1|B, 1, T, width / 2]."""
        if self._last is not None and self._last[0] is positions and self._last[1].dtype == dtype:
            return self._last[1:]  # every layer asks for the same positions
        angle = float_positions(positions)[:, None, :, None] * self.frequencies(positions)
        cos, sin = (angle.cos() * self.strength).to(dtype), (angle.sin() * self.strength).to(dtype)
        self._last = (positions, cos, sin)
        return cos, sin

    def frequencies(self, positions: Tensor) -> Tensor:
        """How far each pair turns from one position to the next, fastest first: [width / 2], in radians."""
        pair = float_positions(torch.arange(0, self.width, 2, device=positions.device))
        return self.base ** (-pair / self.width)

    def _turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        turning, still = x[..., : self.width], x[..., self.width :]
        if self.interleaved:
            a, b = turning[..., 0::2], turning[..., 1::2]
            turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
        else:
            a, b = turning.chunk(2, dim=-1)
            turned = torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
        return turned if still.shape[-1] == 0 else torch.cat([turned, still], dim=-1)
