"""Blocks that norm what a sublayer gives before it joins the residual stream."""

from __future__ import annotations

from torch import Tensor, nn

from gptkit.model.interfaces import Attention, Block, FeedForward, MakeNorm, Step
from gptkit.model.options import dropout_layer
from gptkit.registry import register


class _NormedResult(Block):
    """x + norm(f(...)), for attention and then for the feed-forward network unless it is absent."""

    def __init__(
        self,
        attention: Attention,
        feed_forward: FeedForward,
        make_norm: MakeNorm,
        dropout: float,
        before: bool,
    ) -> None:
        super().__init__()
        width, absent = attention.shape.d_model, feed_forward.absent
        self.attention_norm = make_norm(width) if before else nn.Identity()
        self.attention = attention
        self.attention_result_norm = make_norm(width)
        self.feed_forward_norm = make_norm(width) if before and not absent else nn.Identity()
        self.feed_forward = feed_forward
        self.feed_forward_result_norm = None if absent else make_norm(width)
        self.dropout = dropout_layer("model.block", dropout)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        read = self.attention(self.attention_norm(x), step)
        x = x + self.dropout(self.attention_result_norm(read))
        if self.feed_forward_result_norm is None:
            return x
        made = self.feed_forward(self.feed_forward_norm(x))
        return x + self.dropout(self.feed_forward_result_norm(made))


@register("model.block", "sandwich")
class Sandwich(_NormedResult):
    """x + norm(f(norm(x))): a norm before each sublayer and one after it (Ding et al. 2021; Gemma 2).

    Args:
        dropout: rate on what each sublayer adds.
    """

    def __init__(
        self, attention: Attention, feed_forward: FeedForward, make_norm: MakeNorm, *, dropout: float = 0.0
    ) -> None:
        super().__init__(attention, feed_forward, make_norm, dropout, before=True)


@register("model.block", "post_sublayer")
class PostSublayer(_NormedResult):
    """x + norm(f(x)): the norm stands after each sublayer, within the residual sum (OLMo 2, 2024).

    Not `post`, which norms the sum itself: here the stream from the embedding to the head stays free.

    Args:
        dropout: rate on what each sublayer adds.
    """

    def __init__(
        self, attention: Attention, feed_forward: FeedForward, make_norm: MakeNorm, *, dropout: float = 0.0
    ) -> None:
        super().__init__(attention, feed_forward, make_norm, dropout, before=False)
