"""How a vector becomes a score for each token."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.model.cross_entropy import linear_cross_entropy
from gptkit.model.interfaces import Embedding, Head, ModelShape
from gptkit.registry import register


@register("model.head", "language_model")
class LanguageModelHead(Head):
    """The unembedding: one score for each token of the vocabulary, linear in the vector.

    Args:
        tied: the map is the embedding's own table (Press and Wolf 2017).
        bias: whether each token has a bias.
    """

    def __init__(
        self, shape: ModelShape, embedding: Embedding, *, tied: bool = True, bias: bool = False
    ) -> None:
        super().__init__()
        self.tied = tied
        if tied:
            self.__dict__["embedding"] = embedding  # shared: the GPT registers it
        else:
            self.table = nn.Parameter(torch.empty(shape.vocab_size, shape.d_model))
        self.bias = nn.Parameter(torch.zeros(shape.vocab_size)) if bias else None

    @property
    def weight(self) -> Tensor:
        """[V, D]."""
        return self.__dict__["embedding"].weight if self.tied else self.table

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def loss(self, x: Tensor, targets: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
        return linear_cross_entropy(x, self.weight, self.bias, targets, reduction)
