"""Token vectors that are normalised before the first block reads them."""

from __future__ import annotations

from torch import Tensor, nn

from gptkit.errors import check_options
from gptkit.model.embeddings import TokenEmbedding
from gptkit.model.interfaces import ModelShape, PositionalEncoding
from gptkit.model.options import dropout_rule, eps_rule
from gptkit.model.tied import lookup
from gptkit.registry import register


@register("model.embedding", "normed")
class NormedEmbedding(TokenEmbedding):
    """LayerNorm(e(token)), then the position (Dettmers et al. 2021; BLOOM: Le Scao et al. 2022).

    It keeps training steady in 16 bits, at the cost of some loss (Le Scao et al. 2022, section 3.2.2).
    A tied head reads the table itself.

    Args:
        eps: added to the variance.
        bias: whether the norm has one.
        dropout: rate on the sum of token and position.
    """

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        *,
        eps: float = 1e-5,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        check_options("model.embedding", eps_rule(eps), dropout_rule(dropout))
        super().__init__(shape, position, dropout=dropout)
        self.norm = nn.LayerNorm(shape.d_model, eps, bias=bias)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        x = self.norm(lookup(tokens, self.weight))
        return self.dropout(self.position.embed(x, positions))
