"""How activations are normalised."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.errors import check_options
from gptkit.model.interfaces import Norm
from gptkit.model.options import eps_rule
from gptkit.registry import register


@register("model.norm", "layer")
class LayerNorm(Norm):
    """(x - mean) / sqrt(variance + eps) over the last axis, then a gain and a bias (Ba et al. 2016).

    Args:
        eps: added to the variance.
        bias: whether a bias is added after the gain.
    """

    def __init__(self, width: int, *, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        check_options("model.norm", eps_rule(eps))
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@register("model.norm", "none")
class NoNorm(Norm):
    """No normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
