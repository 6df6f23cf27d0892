"""Retention: attention without a softmax whose weights fade with distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.errors import UserError, check_options
from gptkit.model.interfaces import Mask, MaskContext, ModelShape, PositionalEncoding, Step
from gptkit.model.options import eps_rule
from gptkit.registry import register
from gptkit_recurrent_attention.recurrent import Recurrent, State, within


@register("model.attention", "retention")
class Retention(Recurrent):
    """(swish(x W_g) * norm(sum_s gamma^(t - s) (q_t . k_s) / sqrt(d) v_s)) W_o (RetNet: Sun et al. 2023).

    Each head fades at a rate of its own, gamma = 1 - 2^-r with r from `slowest` to `fastest` over the
    heads, and is normalised by itself. The paper turns q and k by position: model/position=rotary.

    Args:
        fastest: r of the head that fades fastest.
        slowest: r of the head that fades slowest.
        bias: whether the linear maps have biases.
        out_bias: whether the map back has one; null takes `bias`.
        eps: added to the variance where a head is normalised.

    Raises:
        UserError: a mask other than the causal one; positions that add a bias to the scores; rates below 0.
    """

    name = "retention"

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        fastest: float = 5.0,
        slowest: float = 9.0,
        bias: bool = False,
        out_bias: bool | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(shape, position, mask, bias=bias, out_bias=out_bias)
        self.ask(position, mask, MaskContext())
        if not 0 < fastest <= slowest:
            raise UserError(
                f"retention: fastest={fastest} and slowest={slowest}; heads fade by 1 - 2^-r at each token, so take "
                "0 < fastest <= slowest."
            )
        check_options("model.attention", eps_rule(eps))
        self.rates = (fastest, slowest)
        self.gate = nn.Linear(shape.d_model, self.heads * self.d_head, bias=bias)
        self.norm = nn.LayerNorm(self.d_head, eps)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        q, k, v = self.given(x, step)
        q, k = self.place(q, self.unpadded(k, step), step)
        q, at, decay = q * self.scale, step.q_positions.to(q.dtype), self.decay(q)
        if step.patterns is not None:
            self.show(within(q, k, at, decay).to(x.dtype), step)
        state: State = step.cache or State()
        y = self.norm(self.summed(q, k, v, state, at, decay).to(x.dtype))
        return self.out(F.silu(self.gate(x)) * y.transpose(1, 2).flatten(2))

    def decay(self, like: Tensor) -> Tensor:
        """log gamma of each head, [H], of another tensor's kind."""
        r = torch.linspace(*self.rates, self.heads, device=like.device, dtype=like.dtype)
        return torch.log1p(-(2.0**-r))
