"""Blocks that scale the stream, or what is added to it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gptkit.errors import UserError
from gptkit.model.interfaces import Attention, Block, FeedForward, MakeNorm, Step
from gptkit.model.options import dropout_layer
from gptkit.registry import register


@register("model.block", "rezero")
class ReZero(Block):
    """x + alpha f(x), without norms; alpha is one learned number a layer, first 0 (Bachlechner et al. 2020).

    Every layer starts as the identity, and the gradient of alpha, f(x), is what wakes it.

    Args:
        dropout: rate on what each sublayer adds.
    """

    needs_final_norm = False

    def __init__(
        self, attention: Attention, feed_forward: FeedForward, make_norm: MakeNorm, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = feed_forward
        self.alpha = nn.Parameter(torch.zeros(1))
        self.dropout = dropout_layer("model.block", dropout)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        x = x + self.dropout(self.alpha * self.attention(x, step))
        if self.feed_forward.absent:
            return x
        return x + self.dropout(self.alpha * self.feed_forward(x))


@register("model.block", "layer_scale")
class LayerScale(Block):
    """x + gamma f(norm(x)), with one learned gamma for each channel (CaiT: Touvron et al. 2021).

    Args:
        dropout: rate on what each sublayer adds.
        start: where every gamma starts; CaiT takes 0.1 to 18 layers, 1e-5 to 24 and 1e-6 beyond.
    """

    def __init__(
        self,
        attention: Attention,
        feed_forward: FeedForward,
        make_norm: MakeNorm,
        *,
        dropout: float = 0.0,
        start: float = 0.1,
    ) -> None:
        super().__init__()
        if not math.isfinite(start):
            raise UserError(f"layer_scale needs a start that is a finite number, got {start}. Take 0.1.")
        width, self.start = attention.shape.d_model, start
        self.attention_norm = make_norm(width)
        self.attention = attention
        self.attention_gamma = nn.Parameter(torch.full((width,), start))
        self.feed_forward = feed_forward
        self.feed_forward_norm = self.feed_forward_gamma = None
        if not feed_forward.absent:
            self.feed_forward_norm = make_norm(width)
            self.feed_forward_gamma = nn.Parameter(torch.full((width,), start))
        self.dropout = dropout_layer("model.block", dropout)

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """Every gamma starts at the same number."""
        tensor.fill_(self.start)
        return True

    def forward(self, x: Tensor, step: Step) -> Tensor:
        x = x + self.dropout(self.attention_gamma * self.attention(self.attention_norm(x), step))
        if self.feed_forward_norm is None:
            return x
        return x + self.dropout(self.feed_forward_gamma * self.feed_forward(self.feed_forward_norm(x)))


@register("model.block", "deep_norm")
class DeepNorm(Block):
    """norm(alpha x + f(x)), alpha = (2 n_layers)^(1/4) (DeepNet: Wang et al. 2022, decoders).

    It wants `model.init=deep_norm` beside it, whose beta bounds what an update changes.

    Args:
        dropout: rate on what each sublayer adds.
        alpha: factor on the stream; null takes it from the depth.
    """

    needs_final_norm = False

    def __init__(
        self,
        attention: Attention,
        feed_forward: FeedForward,
        make_norm: MakeNorm,
        *,
        dropout: float = 0.0,
        alpha: float | None = None,
    ) -> None:
        super().__init__()
        if alpha is not None and not 0 < alpha < math.inf:
            raise UserError(
                f"deep_norm needs an alpha above 0, got {alpha}. Take null, which follows the depth, or 1 "
                "for model/block=post."
            )
        shape = attention.shape
        self.alpha = (2 * shape.n_layers) ** 0.25 if alpha is None else alpha
        self.attention = attention
        self.attention_norm = make_norm(shape.d_model)
        self.feed_forward = feed_forward
        self.feed_forward_norm = None if feed_forward.absent else make_norm(shape.d_model)
        self.dropout = dropout_layer("model.block", dropout)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        x = self.attention_norm(self.alpha * x + self.dropout(self.attention(x, step)))
        if self.feed_forward_norm is None:
            return x
        return self.feed_forward_norm(self.alpha * x + self.dropout(self.feed_forward(x)))
