"""Normalisation by the root mean square: no mean is taken off, no bias added."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit.errors import check_options
from gptkit.model.interfaces import Norm
from gptkit.model.options import eps_rule
from gptkit.registry import register


@register("model.norm", "rms")
class RMSNorm(Norm):
    """g x / sqrt(mean(x^2) + eps) over the last axis (Zhang and Sennrich 2019).

    With `offset=1` the gain is 1 + w, and w starts at zero, so weight decay pulls the gain to one
    (Gemma). Numbers of 16 bits are squared and summed in 32.

    Args:
        eps: added to the mean square.
        offset: what is added to the weight to make the gain.
    """

    def __init__(self, width: int, *, eps: float = 1e-6, offset: float = 0.0) -> None:
        super().__init__()
        check_options("model.norm", eps_rule(eps))
        self.eps, self.offset = eps, offset
        self.weight = nn.Parameter(torch.full((width,), 1.0 - offset))

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """The gain starts at one."""
        tensor.fill_(1.0 - self.offset)
        return True

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        if self.offset:
            return (normed * (self.offset + self.weight.to(wide.dtype))).to(x.dtype)  # as Gemma rounds
        return self.weight * normed.to(x.dtype)  # as Llama rounds
