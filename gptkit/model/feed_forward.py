"""The network applied to each token alone."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.model.interfaces import FeedForward, ModelShape, mark
from gptkit.registry import register

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu_squared": lambda x: F.relu(x).square(),
    "silu": F.silu,
    "sigmoid": lambda x: x.sigmoid(),
    "tanh": lambda x: x.tanh(),
    "identity": lambda x: x,
}


@register("model.feed_forward", "mlp")
class MLP(FeedForward):
    """FFN(x) = sigma(x W1 + b1) W2 + b2 (Vaswani et al. 2017, section 3.3).

    The activation sigma(z) is one of

        gelu          z P(Z <= z), Z standard normal (Hendrycks and Gimpel 2016)
        gelu_tanh     z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2, nearly the same (GPT-2)
        relu          max(0, z) (Nair and Hinton 2010; Vaswani et al. 2017)
        relu_squared  max(0, z)^2, the squared ReLU (Primer: So et al. 2021)
        silu          z / (1 + exp(-z)) (Elfwing et al. 2018; swish: Ramachandran et al. 2017)
        sigmoid       1 / (1 + exp(-z))
        tanh          (exp(z) - exp(-z)) / (exp(z) + exp(-z))
        identity      z, so that both maps are one linear map of rank d_ff at most

    Args:
        activation: sigma; `gelu_tanh` is GPT-2's.
        bias: whether the two maps have biases.
    """

    def __init__(
        self,
        shape: ModelShape,
        *,
        activation: Literal[
            "gelu", "gelu_tanh", "relu", "relu_squared", "silu", "sigmoid", "tanh", "identity"
        ] = "gelu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.up = nn.Linear(shape.d_model, shape.d_ff, bias=bias)
        self.down = mark(nn.Linear(shape.d_ff, shape.d_model, bias=bias), "residual")

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


@register("model.feed_forward", "none")
class NoFeedForward(FeedForward):
    """No feed-forward network: an attention-only model (Elhage et al. 2021)."""

    absent = True

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(()).expand_as(x)
