"""First weights for deep models."""

from __future__ import annotations

import torch
from torch import Tensor

from gptkit.errors import UserError
from gptkit.model.interfaces import ModelShape, Role
from gptkit.registry import register

ASKING = frozenset(
    {"qk", "q", "k", "query", "key"}
)  # maps that decide where attention looks, not what it brings


class _Drawn:
    """Normal matrices, biases of zero and gains of one; a subclass says how wide each matrix is drawn."""

    def fill(self, name: str, parameter: Tensor, role: Role, generator: torch.Generator) -> None:
        if role == "norm":
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        elif role == "bias":
            parameter.zero_()
        else:
            self.draw(name, parameter, role, generator)

    def draw(self, name: str, parameter: Tensor, role: Role, generator: torch.Generator) -> None:
        raise NotImplementedError


@register("model.init", "small")
class SmallInit(_Drawn):
    """Normal(0, sqrt(2 / (5 d_model))) (Nguyen and Salazar 2019); maps into the residual stream have
    std 2 / (n_layers sqrt(d_model)) (GPT-J: Wang and Komatsuzaki 2021; GPT-NeoX: Black et al. 2022).

    Args:
        scale_residual: whether the residual maps follow the second rule; false takes the first for all.
    """

    def __init__(self, shape: ModelShape, *, scale_residual: bool = True) -> None:
        self.std = (2 / (5 * shape.d_model)) ** 0.5
        residual = 2 / (max(shape.n_layers, 1) * shape.d_model**0.5)
        self.residual_std = residual if scale_residual else self.std

    def draw(self, name: str, parameter: Tensor, role: Role, generator: torch.Generator) -> None:
        parameter.normal_(0.0, self.residual_std if role == "residual" else self.std, generator=generator)


@register("model.init", "deep_norm")
class DeepNormInit(_Drawn):
    """Xavier normal, std = gain sqrt(2 / (fan_in + fan_out)), with gain beta = (8 n_layers)^(-1/4) for the
    values, the attention's output and the feed-forward network, 1 for queries and keys (Wang et al. 2022).

    What lies outside the blocks, embeddings and the head, has std 1 / sqrt(d_model).

    Args:
        beta: the gain; null takes it from the depth.
    """

    def __init__(self, shape: ModelShape, *, beta: float | None = None) -> None:
        if beta is not None and beta <= 0:
            raise UserError(
                f"deep_norm needs a beta above 0, got {beta}. Take null, which follows the depth."
            )
        self.beta = (8 * max(shape.n_layers, 1)) ** -0.25 if beta is None else beta
        self.outside = shape.d_model**-0.5
        self.rows = [heads * shape.d_head for heads in (shape.n_heads, shape.n_kv_heads, shape.n_kv_heads)]

    def draw(self, name: str, parameter: Tensor, role: Role, generator: torch.Generator) -> None:
        if not name.startswith("blocks."):
            parameter.normal_(0.0, self.outside, generator=generator)
            return
        owner = name.split(".")[-2]
        if owner == "qkv" and parameter.shape[0] == sum(self.rows):
            queries, keys, values = parameter.split(self.rows)
            for rows, gain in ((queries, 1.0), (keys, 1.0), (values, self.beta)):
                _xavier(rows, gain, generator)
        elif owner == "qkv":
            raise UserError(
                f"deep_norm draws queries, keys and values apart, but the {parameter.shape[0]} rows of {name} "
                f"are not {self.rows} of each. Take model/attention=multi_head or grouped_query, or "
                "model/init=small."
            )
        else:
            _xavier(parameter, 1.0 if owner in ASKING else self.beta, generator)


def _xavier(matrix: Tensor, gain: float, generator: torch.Generator) -> None:
    matrix.normal_(0.0, gain * (2 / sum(matrix.shape[-2:])) ** 0.5, generator=generator)
