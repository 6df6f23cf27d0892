"""A squashing function in the place of a norm: no mean and no variance is taken."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gptkit.errors import UserError
from gptkit.model.interfaces import Norm
from gptkit.registry import register


@register("model.norm", "dynamic_tanh")
class DynamicTanh(Norm):
    """gamma tanh(alpha x) + beta, elementwise; alpha is one learned number (Zhu et al. 2025).

    Args:
        alpha: where alpha starts; not zero.
        bias: whether beta is added.
    """

    def __init__(self, width: int, *, alpha: float = 0.5, bias: bool = True) -> None:
        super().__init__()
        if not math.isfinite(alpha) or alpha == 0:
            raise UserError(
                f"dynamic_tanh needs an alpha that is a number other than 0, got {alpha}: at 0 the model would "
                "read nothing of its input. Take 0.5, or less for a wide model."
            )
        self.start = alpha
        self.alpha = nn.Parameter(torch.full((1,), alpha))
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """Alpha starts at its own value; the gain and the bias as those of any norm."""
        if name != "alpha":
            return False
        tensor.fill_(self.start)
        return True

    def forward(self, x: Tensor) -> Tensor:
        y = self.weight * (self.alpha * x).tanh()
        return y if self.bias is None else y + self.bias
