"""Token vectors that are narrow in the table and widened by one map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.errors import UserError
from gptkit.model.interfaces import Embedding, ModelShape, PositionalEncoding
from gptkit.model.options import dropout_layer
from gptkit.registry import register


@register("model.embedding", "factorised")
class FactorisedEmbedding(Embedding):
    """e(token) = A[token] B, with a table A of V x E and one map B of E x D (ALBERT: Lan et al. 2020).

    V E + E D numbers in the place of V D. A tied head reads the product A B, so its scores are
    x B^T A^T, of rank E.

    Args:
        width: E.
        dropout: rate on the sum of token and position.
    """

    position: PositionalEncoding

    def __init__(
        self, shape: ModelShape, position: PositionalEncoding, *, width: int = 128, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width < 1:
            raise UserError(f"factorised needs a width of at least 1, got {width}. Take 128, or d_model / 4.")
        self.__dict__["position"] = position  # shared: the GPT registers it
        self.gptkit_role = "embedding"
        self.table = nn.Parameter(torch.empty(shape.vocab_size, width))
        self.widen = nn.Linear(width, shape.d_model, bias=False)  # B^T
        self.dropout = dropout_layer("model.embedding", dropout)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """A B, [V, D]: what a tied head reads, with gradients to both."""
        return F.linear(self.table, self.widen.weight)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        x = self.widen(F.embedding(tokens, self.table))
        return self.dropout(self.position.embed(x, positions))
