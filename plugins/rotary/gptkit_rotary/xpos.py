"""Rotary positions whose scores fade with distance."""

from __future__ import annotations

import torch
from torch import Tensor

from gptkit.errors import UserError
from gptkit.model.interfaces import ModelShape, float_positions
from gptkit.registry import register
from gptkit_rotary import Rotary


@register("model.position", "xpos")
class XPos(Rotary):
    """Rotary, and each pair fades with distance: the fast ones more (Sun et al. 2022).

    q is multiplied by zeta_i^(p / scale) and k by zeta_i^(-p / scale), so a score of distance n by
    zeta_i^(n / scale), with zeta_i = (2i/d + gamma) / (1 + gamma). Made for causal models: a key that
    came later would count more.

    Args:
        scale: positions after which a pair has faded by zeta.
        gamma: how little the fastest pair fades.
        base: the slowest pair of numbers turns once in almost base * 2 pi positions.
        fraction: the part of each head that turns; the rest stays as it is.
        interleaved: pairs are neighbours (GPT-J); false pairs the two halves (GPT-NeoX, Llama).
    """

    def __init__(
        self, shape: ModelShape, *, scale: float = 512.0, gamma: float = 0.4, base: float = 10000.0,
        fraction: float = 1.0, interleaved: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(shape, base=base, fraction=fraction, interleaved=interleaved)
        if scale <= 0 or gamma <= 0:
            raise UserError(f"xpos: scale={scale} and gamma={gamma} must both be above 0.")
        self.scale, self.gamma = scale, gamma
        self.middle = shape.context_length / 2  # what both sides share cancels; it keeps the powers small

    def rotate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        q, k = super().rotate(q, k, q_positions, k_positions)
        return self._fade(q, q_positions, 1.0), self._fade(k, k_positions, -1.0)

    def _fade(self, x: Tensor, positions: Tensor, sign: float) -> Tensor:
        """Multiply each pair of `x` [B, H, T, Dh] by its zeta^(sign * position / scale)."""
        pair = float_positions(torch.arange(0, self.width, 2, device=x.device)) / self.width
        power = sign * (float_positions(positions)[:, None, :, None] - self.middle) / self.scale
        fade = ((pair + self.gamma) / (1 + self.gamma)) ** power
        fade = fade.repeat_interleave(2, -1) if self.interleaved else torch.cat([fade, fade], dim=-1)
        turning, still = x[..., : self.width], x[..., self.width :]
        faded = (turning * fade).to(x.dtype)
        return faded if still.shape[-1] == 0 else torch.cat([faded, still], dim=-1)
