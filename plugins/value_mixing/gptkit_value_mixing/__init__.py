"""What else values hear than the stream: the token itself, or the values of the first layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.errors import UserError
from gptkit.model.attention import GroupedQuery
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding, Step
from gptkit.registry import register


class _MixedValues(GroupedQuery):
    """Grouped-query attention whose values are mixed with others before they are kept."""

    def forward(self, x: Tensor, step: Step) -> Tensor:
        q, k, v = self.project(x)
        q, k = self.place(q, k, step)
        v = self.mix(v, step)
        if step.cache is not None:
            k, v = step.cache.append(k, v)
        return self.out(self.read(q, k, v, step).transpose(1, 2).flatten(2))

    def mix(self, v: Tensor, step: Step) -> Tensor:
        """[B, Hkv, T, Dh], of this step's tokens."""
        raise NotImplementedError


@register("model.attention", "value_embedding")
class ValueEmbedding(_MixedValues):
    """v_t + lambda E[token_t], with a table of its own in each layer (modded-nanogpt, Jordan et al. 2024).

    So a value can tell which token it came from however the stream has changed. The table holds
    vocabulary times n_kv_heads * d_head weights a layer, and costs no products.

    Args:
        start: lambda at the beginning; it is learned.
        bias: whether the linear maps have biases.
        out_bias: whether the map back has one; null takes `bias`.
        dropout: rate on the attention pattern.
        scale: factor on q k^T; null takes 1 / sqrt(d_head).
    """

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        start: float = 0.5,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__(shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale)
        self.table = nn.Embedding(shape.vocab_size, self.kv_heads * self.d_head)
        self.share = _Shares([start])

    def mix(self, v: Tensor, step: Step) -> Tensor:
        if step.tokens is None:
            raise UserError("value_embedding reads the tokens themselves; set Step.tokens, as GPT does.")
        own = F.embedding(step.tokens, self.table.weight).unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)
        return v + self.share.weight[0] * own


@register("model.attention", "value_residual")
class ValueResidual(_MixedValues):
    """l1 v_t + l2 v_t of the first layer, both learned (ResFormer: Zhou et al. 2024).

    What a token was at the bottom reaches the values of every layer. The cache keeps the mixed values,
    so decoding costs nothing more.

    Args:
        start: l2 at the beginning; l1 starts at 1 - start. The first layer has nothing to mix.
        bias: whether the linear maps have biases.
        out_bias: whether the map back has one; null takes `bias`.
        dropout: rate on the attention pattern.
        scale: factor on q k^T; null takes 1 / sqrt(d_head).
    """

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        start: float = 0.5,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__(shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale)
        self.share = _Shares([1 - start, start]) if shape.layer else None

    def mix(self, v: Tensor, step: Step) -> Tensor:
        first = step.memo.setdefault("values of the first layer", v)
        if self.share is None or first is v:
            return v
        return self.share.weight[0] * v + self.share.weight[1] * first


class _Shares(nn.Module):
    """Numbers that start as told and are learned."""

    def __init__(self, start: list[float]) -> None:
        super().__init__()
        self.start = start
        self.weight = nn.Parameter(torch.tensor(start))

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """As told."""
        tensor.copy_(torch.tensor(self.start))
        return True
