"""Where norms and residual sums stand around attention and the feed-forward network."""

from __future__ import annotations

from torch import Tensor

from gptkit.model.interfaces import Attention, Block, FeedForward, MakeNorm, Step
from gptkit.model.options import dropout_layer
from gptkit.registry import register


class _TwoSublayers(Block):
    """Attention, then the feed-forward network unless it is absent, each with a norm."""

    def __init__(
        self, attention: Attention, feed_forward: FeedForward, make_norm: MakeNorm, dropout: float
    ) -> None:
        super().__init__()
        width = attention.shape.d_model
        self.attention_norm = make_norm(width)
        self.attention = attention
        self.feed_forward_norm = None if feed_forward.absent else make_norm(width)
        self.feed_forward = feed_forward
        self.dropout = dropout_layer("model.block", dropout)


@register("model.block", "pre")
class PreNorm(_TwoSublayers):
    """x + f(norm(x)), for attention and then for the feed-forward network (GPT-2: Radford et al. 2019).

    Args:
        dropout: rate on what each sublayer adds.
    """

    def __init__(
        self, attention: Attention, feed_forward: FeedForward, make_norm: MakeNorm, *, dropout: float = 0.0
    ) -> None:
        super().__init__(attention, feed_forward, make_norm, dropout)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), step))
        if self.feed_forward_norm is None:
            return x
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


@register("model.block", "post")
class PostNorm(_TwoSublayers):
    """norm(x + f(x)), for attention and then for the feed-forward network (Vaswani et al. 2017; GPT-1).

    Args:
        dropout: rate on what each sublayer adds.
    """

    needs_final_norm = False

    def __init__(
        self, attention: Attention, feed_forward: FeedForward, make_norm: MakeNorm, *, dropout: float = 0.0
    ) -> None:
        super().__init__(attention, feed_forward, make_norm, dropout)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        x = self.attention_norm(x + self.dropout(self.attention(x, step)))
        if self.feed_forward_norm is None:
            return x
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


@register("model.block", "parallel")
class Parallel(Block):
    """x + attention(norm(x)) + feed_forward(norm(x)) (GPT-J: Wang and Komatsuzaki 2021).

    Args:
        dropout: rate on what each sublayer adds.
        shared_norm: one norm for both, as GPT-J; false gives each its own, as GPT-NeoX.
    """

    def __init__(
        self,
        attention: Attention,
        feed_forward: FeedForward,
        make_norm: MakeNorm,
        *,
        dropout: float = 0.0,
        shared_norm: bool = True,
    ) -> None:
        super().__init__()
        width = attention.shape.d_model
        self.attention_norm = make_norm(width)
        self.feed_forward_norm = None if shared_norm or feed_forward.absent else make_norm(width)
        self.attention = attention
        self.feed_forward = feed_forward
        self.dropout = dropout_layer("model.block", dropout)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        normed = self.attention_norm(x)
        y = x + self.dropout(self.attention(normed, step))
        if self.feed_forward.absent:
            return y
        other = normed if self.feed_forward_norm is None else self.feed_forward_norm(x)
        return y + self.dropout(self.feed_forward(other))
