"""Kernelised relative positions: scores fade with distance, at a pace that each head learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit.model.interfaces import DistanceBias, ModelShape
from gptkit.model.kernels import exact
from gptkit.registry import register


class _Kerple(DistanceBias):
    """Two numbers above zero for each head, learned as their logarithms."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.log_r1 = nn.Parameter(torch.zeros(shape.n_heads))
        self.log_r2 = nn.Parameter(torch.zeros(shape.n_heads))

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """Heads start apart: r1 from 0.1 to 2 and r2 from 0.1 to 1, at random."""
        tensor.uniform_(0.1, 2.0 if name == "log_r1" else 1.0, generator=generator).log_()
        return True

    def numbers(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """r1 and r2, [H, 1, ...] for a distance of any shape."""
        shape, kind = (-1, *[1] * distance.ndim), exact(self.log_r1.dtype)  # 16 bits cannot count distances
        return self.log_r1.to(kind).exp().view(shape), self.log_r2.to(kind).exp().view(shape)


@register("model.position", "kerple_log")
class KerpleLog(_Kerple):
    """score - r1 log(1 + r2 |distance|), r1 and r2 above zero and learned by each head (Chi et al. 2022)."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__(shape)

    def bias_of(self, distance: Tensor) -> Tensor:
        r1, r2 = self.numbers(distance)
        return -r1 * torch.log1p(r2 * distance.abs())


@register("model.position", "kerple_power")
class KerplePower(_Kerple):
    """score - r1 |distance|^r2, r1 above zero and r2 from 0 to 2, learned by each head (Chi et al. 2022).

    With r2 = 1 it is ALiBi with slopes that are learned.
    """

    def __init__(self, shape: ModelShape) -> None:
        super().__init__(shape)

    def bias_of(self, distance: Tensor) -> Tensor:
        r1, r2 = self.numbers(distance)
        far = distance.abs()
        power = far.clamp(min=1).to(r2.dtype) ** r2.clamp(
            max=2.0
        )  # 0^r2 is 0, but its slope in r2 is not a number
        return -r1 * torch.where(far > 0, power, torch.zeros_like(power))
