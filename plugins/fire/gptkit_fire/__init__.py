"""FIRE: a small network turns a distance, measured against the query's position, into a bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit.errors import UserError
from gptkit.model.interfaces import ModelShape, PositionalEncoding
from gptkit.model.kernels import exact
from gptkit.registry import register

_SMALLEST = 1e-6  # of c: at 0 all distances would be the same, and their share 0 / 0


@register("model.position", "fire")
class FIRE(PositionalEncoding):
    """score + f(psi(|i - j|) / psi(max(L, i))), psi(x) = log(c x + 1), f a network with one hidden layer.

    Whatever the length, f is asked about numbers from 0 to 1 (Li et al. 2023). c and L are learned; i, the
    query's position, is counted from 1.

    Args:
        width: of the network's hidden layer.
        scale: c at the start.
        threshold: L at the start; null takes half the context length.
    """

    def __init__(
        self, shape: ModelShape, *, width: int = 32, scale: float = 0.1, threshold: float | None = None
    ) -> None:
        super().__init__()
        first = shape.context_length / 2 if threshold is None else threshold
        if width < 1 or scale <= 0 or first <= 0:
            raise UserError(f"fire: width={width}, scale={scale} and threshold={first} must all be above 0.")
        self.first = {"scale": scale, "threshold": first}
        self.scale = nn.Parameter(torch.tensor([scale]))
        self.threshold = nn.Parameter(torch.tensor([float(first)]))
        self.up = nn.Linear(1, width)
        self.down = nn.Linear(width, shape.n_heads)

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """c and L start as told."""
        tensor.fill_(self.first[name])
        return True

    def score_bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        kind = exact(self.scale.dtype)
        distance = (q_positions.unsqueeze(-1) - k_positions.unsqueeze(-2)).abs().to(kind)
        far = torch.maximum(self.threshold.abs().to(kind), q_positions.unsqueeze(-1) + 1)  # [1|B, T, 1]
        share = (self.psi(distance) / self.psi(far)).to(self.up.weight.dtype)
        return self.down(self.up(share.unsqueeze(-1)).relu()).movedim(-1, 1).to(q.dtype)

    def psi(self, x: Tensor) -> Tensor:
        """log(c x + 1), which tells near distances apart better than far ones."""
        return torch.log1p(self.scale.abs().clamp(min=_SMALLEST).to(x.dtype) * x)
