"""Attention that forgets: a gate at each token fades all that came before it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.model.attention import GroupedQuery
from gptkit.model.cache import KeyValueCache
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding, Step
from gptkit.model.kernels import allowed, exact, mixed, products, score_bias, softmax
from gptkit.registry import register


@register("model.attention", "forgetting")
class Forgetting(GroupedQuery):
    """softmax(q_i k_j / sqrt(d) + sum_{l = j+1..i} log f_l) v_j, f = sigmoid(w x + b) (Lin et al. 2025).

    Each head of keys has a gate f of its own, which x decides: where it is near 0 the text before is
    forgotten, where it is near 1 nothing fades. It tells order by itself, so it needs no positions.
    Under a mask that shows later tokens these fade in the same way.

    Args:
        start: b at the beginning; 4 keeps 98 % at each token.
        bias: whether the linear maps have biases.
        out_bias: whether the map back has one; null takes `bias`.
        dropout: rate on the attention pattern.
        scale: factor on q k^T; null takes 1 / sqrt(d_head).
    """

    expected_failures: ClassVar = {
        "order_is_told_by_positions_alone": "what lies between two tokens fades one"
    }

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        start: float = 4.0,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__(
            shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale, kernel="eager"
        )
        self.gate = _Gate(shape.d_model, self.kv_heads, start)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As before, with log f [B, Hkv, T, 1] beside the values, so that the cache keeps both."""
        q, k, v = super().project(x)
        fade = F.logsigmoid(self.gate(x)).transpose(1, 2).unsqueeze(-1)
        return q, k, torch.cat([v, fade.to(v.dtype)], dim=-1)

    def read(self, q: Tensor, k: Tensor, v: Tensor, step: Step) -> Tensor:
        v, fade = v[..., :-1], v[..., -1].to(exact(v.dtype))  # [B, Hkv, S]
        if step.context.k_padding is not None:
            fade = fade.masked_fill(step.context.k_padding.unsqueeze(1), 0.0)
        faded = fade.cumsum(-1).repeat_interleave(self.heads // self.kv_heads, dim=1)  # [B, H, S]
        away = (faded[..., -q.shape[2] :].unsqueeze(-1) - faded.unsqueeze(-2)).abs().neg()
        scores, bias = self.scale * products(q, k), score_bias(q, k, step, self.position)
        scores = scores + away.to(scores.dtype) if bias is None else scores + (bias + away).to(scores.dtype)
        pattern = softmax(scores, allowed(step, self.mask))
        if step.patterns is not None:
            step.patterns.append(pattern)
        return mixed(F.dropout(pattern, self.dropout, self.training), v)

    def new_cache(
        self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype, slack: int = 1
    ) -> KeyValueCache:
        keys, values = (self.kv_heads, self.d_head), (self.kv_heads, self.d_head + 1)
        return KeyValueCache(batch, capacity, keys, values, device, dtype, slack)


class _Gate(nn.Linear):
    """The map to the gates' logits, whose bias starts where little is forgotten."""

    def __init__(self, d_model: int, heads: int, start: float) -> None:
        super().__init__(d_model, heads)
        self.start = start

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """The bias starts at `start`; the weight as other maps do."""
        if name == "bias":
            tensor.fill_(self.start)
        return name == "bias"
