"""Linear attention: the softmax's exponential is replaced by a product of positive features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gptkit.model.interfaces import Mask, MaskContext, ModelShape, PositionalEncoding, Step
from gptkit.registry import register
from gptkit_recurrent_attention.recurrent import Recurrent, State, within


@register("model.attention", "linear")
class Linear(Recurrent):
    """sum_s phi(q_t).phi(k_s) v_s / sum_s phi(q_t).phi(k_s), phi(x) = elu(x) + 1 (Katharopoulos et al. 2020).

    Rotary positions turn phi(q) and phi(k) above the line and not below it (Su et al. 2021, section 3.3).
    Reading costs 64 products a token instead of T, and one more token the same whatever came before.

    Args:
        bias: whether the linear maps have biases.
        out_bias: whether the map back has one; null takes `bias`.

    Raises:
        UserError: a mask other than the causal one; positions that add a bias to the scores.
    """

    name = "linear attention"

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        bias: bool = True,
        out_bias: bool | None = None,
    ) -> None:
        super().__init__(shape, position, mask, bias=bias, out_bias=out_bias)
        self.ask(position, mask, MaskContext())

    def forward(self, x: Tensor, step: Step) -> Tensor:
        q, k, v = self.given(x, step)
        q, k = F.elu(q) + 1, self.unpadded(F.elu(k) + 1, step)
        state: State = step.cache or State()
        features = k.cumsum(2) if state.features is None else k.cumsum(2) + state.features.unsqueeze(2)
        state.features = features[:, :, -1]
        below = (q * features).sum(-1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)
        q, k = self.place(q, k, step)
        at = step.q_positions.to(q.dtype)
        if step.patterns is not None:
            self.show((within(q, k, at, None) / below).to(x.dtype), step)
        y = (self.summed(q, k, v, state, at) / below).to(x.dtype)
        return self.out(y.transpose(1, 2).flatten(2))

    def new_cache(
        self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype, slack: int = 1
    ) -> Any:
        state = super().new_cache(batch, capacity, device, dtype, slack)
        state.features = state.sums[..., 0].clone()
        return state
