"""A head that learns from more than the next token."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.errors import UserError
from gptkit.model.heads import LanguageModelHead
from gptkit.model.interfaces import Embedding, ModelShape
from gptkit.registry import register


@register("model.head", "multi_token")
class MultiToken(LanguageModelHead):
    """Token t also predicts tokens t + 2 .. t + n through x + silu(W_k x) and the same unembedding.

    More than the next token is learned from in each place (Gloeckle et al. 2024, with a residual layer
    for each further token as Medusa: Cai et al. 2024, where they have a whole block). Further tokens are
    read in training alone, and only through their gradients: the loss that is told, and what the model
    says, are those of the next token.

    Args:
        ahead: n, how many tokens are predicted in all.
        weight: of the mean loss of the further tokens, beside the next token's 1.
        tied: the map is the embedding's own table.
        bias: whether each token has a bias.

    Raises:
        UserError: fewer than 2 tokens, or a negative weight.
    """

    def __init__(
        self,
        shape: ModelShape,
        embedding: Embedding,
        *,
        ahead: int = 2,
        weight: float = 0.3,
        tied: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__(shape, embedding, tied=tied, bias=bias)
        if ahead < 2 or weight < 0:
            raise UserError(
                f"multi_token: ahead={ahead}, weight={weight}; take 2 tokens or more and a weight of 0 or more. "
                "The next token alone is model/head=language_model."
            )
        self.further_weight = weight
        self.further = nn.ModuleList(
            nn.Linear(shape.d_model, shape.d_model, bias=False) for _ in range(ahead - 1)
        )

    def loss(self, x: Tensor, targets: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
        told = super().loss(x, targets, reduction)
        if not self.training:
            return told
        if x.ndim < 3:
            raise UserError("multi_token looks along a row: give x as [B, T, D] and targets as [B, T].")
        for distance, one in enumerate(self.further, 1):
            if distance >= x.shape[1]:
                break  # a row so short has no such token
            seen = x[:, :-distance]
            loss = super().loss(seen + F.silu(one(seen)), targets[:, distance:], reduction)
            share = self.further_weight / len(self.further)
            told = told + share * (loss - loss.detach())  # nought, with a gradient
        return told
