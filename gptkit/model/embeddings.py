"""How a token becomes a vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit.model.interfaces import Embedding, ModelShape, PositionalEncoding
from gptkit.model.options import dropout_layer
from gptkit.model.tied import lookup
from gptkit.registry import register


@register("model.embedding", "token")
class TokenEmbedding(Embedding):
    """One learned vector for each token of the vocabulary, told its position.

    Args:
        dropout: rate on the sum of token and position.
    """

    position: PositionalEncoding

    def __init__(self, shape: ModelShape, position: PositionalEncoding, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.__dict__["position"] = position  # shared: the GPT registers it
        self.weight = nn.Parameter(torch.empty(shape.vocab_size, shape.d_model))
        self.gptkit_role = "embedding"
        self.dropout = dropout_layer("model.embedding", dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self.dropout(self.position.embed(lookup(tokens, self.weight), positions))
