"""The maximal update parametrisation (muP): rates found at one width serve a wider model."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gptkit.errors import UserError, check_options
from gptkit.model.cross_entropy import linear_cross_entropy
from gptkit.model.heads import LanguageModelHead
from gptkit.model.interfaces import Embedding, ModelShape, Role
from gptkit.registry import register


@register("model.init", "mup")
class MuPInit:
    """Normal(0, std sqrt(base_width / d_model)) for maps inside the blocks, Normal(0, std) for embeddings
    and positions, zero for the head's own table (Yang et al. 2022, table 8 and appendix D.2).

    Args:
        base_width: the d_model at which std and the learning rate were found.
        std: standard deviation at the base width.
        scale_residual: whether the maps into the residual stream are divided by sqrt(2 n_layers).
        zero_head: whether a head that is not tied starts at zero; false draws it with std.
    """

    def __init__(
        self,
        shape: ModelShape,
        *,
        base_width: int = 64,
        std: float = 0.02,
        scale_residual: bool = True,
        zero_head: bool = True,
    ) -> None:
        self.std, self.head_std = std, 0.0 if zero_head else std
        check_options("model.init", ("std", std, "a number of at least 0", std >= 0))
        self.inside_std = std / width_ratio(shape, base_width) ** 0.5
        depth = (2 * max(shape.n_layers, 1)) ** 0.5 if scale_residual else 1.0
        self.residual_std = self.inside_std / depth

    def fill(self, name: str, parameter: Tensor, role: Role, generator: torch.Generator) -> None:
        if role == "norm":
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        elif role == "bias":
            parameter.zero_()
        elif name.startswith("blocks.") and role != "embedding":
            parameter.normal_(
                0.0, self.residual_std if role == "residual" else self.inside_std, generator=generator
            )
        else:
            parameter.normal_(
                0.0, self.head_std if name.startswith("head.") else self.std, generator=generator
            )


@register("model.head", "mup")
class MuPHead(LanguageModelHead):
    """Scores times multiplier base_width / d_model, so that they do not grow with the width (Yang et al.
    2022, table 8).

    Args:
        tied: the map is the table of the embedding.
        bias: whether each token has a bias.
        base_width: the width at which the scores are those of a plain head.
        multiplier: a further factor on the scores, at every width.
    """

    def __init__(
        self,
        shape: ModelShape,
        embedding: Embedding,
        *,
        tied: bool = True,
        bias: bool = False,
        base_width: int = 64,
        multiplier: float = 1.0,
    ) -> None:
        super().__init__(shape, embedding, tied=tied, bias=bias)
        check_options("model.head", ("multiplier", multiplier, "a number above 0", multiplier > 0))
        self.factor = multiplier / width_ratio(shape, base_width)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x * self.factor, self.weight, self.bias)

    def loss(self, x: Tensor, targets: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
        return linear_cross_entropy(x * self.factor, self.weight, self.bias, targets, reduction)


def width_ratio(shape: ModelShape, base_width: int) -> float:
    """How many times wider than the base a model is."""
    if base_width < 1:
        raise UserError(
            f"mup needs a base_width of at least 1, got {base_width}. Take the d_model at which the learning rate "
            "was found, the same for init, head and optimizer."
        )
    return shape.d_model / base_width
