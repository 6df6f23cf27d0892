"""Attention whose heads mix their scores before the softmax and their patterns after it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit.model.attention import PatternAttention
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding, Step
from gptkit.model.kernels import softmax
from gptkit.registry import register


@register("model.attention", "talking_heads")
class TalkingHeads(PatternAttention):
    """P_after softmax(P_before scores), two learned H x H maps over the heads (Shazeer et al. 2020).

    The mask hides keys between the two; what is hidden stays hidden, as the second map only mixes heads.

    Args:
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
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__(shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale)
        self.before = nn.Parameter(torch.eye(self.heads))
        self.after = nn.Parameter(torch.eye(self.heads))

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """Heads begin by keeping to themselves: then it is plain attention."""
        torch.nn.init.eye_(tensor)
        return True

    def bend(self, scores: Tensor) -> Tensor:
        return torch.einsum("gh,bhts->bgts", self.before, scores)

    def pattern(self, scores: Tensor, allowed: Tensor, step: Step) -> Tensor:
        return torch.einsum("gh,bhts->bgts", self.after, softmax(scores, allowed))
