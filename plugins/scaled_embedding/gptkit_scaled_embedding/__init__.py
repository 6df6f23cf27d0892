"""Token vectors that are multiplied before positions are added."""

from __future__ import annotations

import torch
from torch import Tensor

from gptkit.errors import check_options
from gptkit.model.embeddings import TokenEmbedding
from gptkit.model.interfaces import ModelShape, PositionalEncoding
from gptkit.model.options import dropout_rule
from gptkit.model.tied import lookup
from gptkit.registry import register


@register("model.embedding", "scaled")
class ScaledEmbedding(TokenEmbedding):
    """e(token) * sqrt(d_model) (Vaswani et al. 2017, section 3.4; Gemma).

    A tied head reads the table itself, so small weights serve it while the stream starts at full size.

    Args:
        factor: what vectors are multiplied by; null takes sqrt(d_model).
        dropout: rate on the sum of token and position.
    """

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        *,
        factor: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        rule = ("factor", factor, "a number above 0, or null", factor is None or factor > 0)
        check_options("model.embedding", rule, dropout_rule(dropout))
        super().__init__(shape, position, dropout=dropout)
        self.factor = shape.d_model**0.5 if factor is None else factor

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        x = lookup(tokens, self.weight)
        factor = torch.tensor(
            self.factor, dtype=x.dtype, device=x.device
        )  # rounded as the vectors are: Gemma
        return self.dropout(self.position.embed(x * factor, positions))
