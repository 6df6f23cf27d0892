"""Feed-forward networks in which one map decides how much of another passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.model.interfaces import FeedForward, ModelShape, mark
from gptkit.registry import register


class _Gated(FeedForward):
    """(sigma(x W) * (x V)) W2, with W and V side by side in one map."""

    def __init__(self, shape: ModelShape, activation: Callable[[Tensor], Tensor], bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.gate_up = nn.Linear(shape.d_model, 2 * shape.d_ff, bias=bias)
        self.down = mark(nn.Linear(shape.d_ff, shape.d_model, bias=bias), "residual")

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.activation(gate) * up)


@register("model.feed_forward", "swiglu")
class SwiGLU(_Gated):
    """(silu(x W) * (x V)) W2 (Shazeer 2020; Llama and most models since).

    It has three maps where `mlp` has two, so `model.d_ff` of two thirds makes it as large.

    Args:
        bias: whether the maps have biases.
    """

    def __init__(self, shape: ModelShape, *, bias: bool = False) -> None:
        super().__init__(shape, F.silu, bias)


@register("model.feed_forward", "geglu")
class GeGLU(_Gated):
    """(gelu(x W) * (x V)) W2 (Shazeer 2020; Gemma).

    Args:
        bias: whether the maps have biases.
        approximate: tanh, as Gemma, or none for the exact function.
    """

    def __init__(
        self, shape: ModelShape, *, bias: bool = False, approximate: Literal["tanh", "none"] = "tanh"
    ) -> None:
        super().__init__(shape, lambda x: F.gelu(x, approximate=approximate), bias)


@register("model.feed_forward", "reglu")
class ReGLU(_Gated):
    """(relu(x W) * (x V)) W2 (Shazeer 2020).

    Args:
        bias: whether the maps have biases.
    """

    def __init__(self, shape: ModelShape, *, bias: bool = False) -> None:
        super().__init__(shape, F.relu, bias)
