"""Attention that is wrong on purpose."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from gptkit.model.attention import GroupedQuery, MultiHead
from gptkit.model.cache import KeyValueCache
from gptkit.model.interfaces import Step
from wrong import wrong


class ByHand(MultiHead):
    """Softmax attention as its formula, with places to go wrong."""

    def forward(self, x, step: Step):
        batch, length, _ = x.shape
        qkv = self.qkv(x).view(batch, length, -1, self.d_head).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=1)
        q, k, v = self.turned(q, k, v, step)
        if step.cache is not None:
            k, v = step.cache.append(k, v)
        y = self.read(q, k, v, step)
        return self.out(y.transpose(1, 2).reshape(batch, length, -1))

    def turned(self, q, k, v, step):
        return *self.position.rotate(q, k, step.q_positions, step.q_positions), v

    def read(self, q, k, v, step):
        scores = q @ k.transpose(-2, -1) * self.scale
        bias = self.position.score_bias(q, k, step.q_positions, step.k_positions)
        scores = scores if bias is None else scores + bias
        pattern = scores.masked_fill(~self.allowed(step), -torch.inf).softmax(-1)
        if step.patterns is not None:
            step.patterns.append(pattern)
        return pattern @ v

    def allowed(self, step):
        from gptkit.model.kernels import allowed

        return allowed(step, self.mask)


@wrong("model.attention", "reads_nothing_as_nothing")
class NaNForAnEmptyRow(ByHand):
    pass


@wrong("model.attention", "causal")
class ReadsOneAhead(ByHand):
    def allowed(self, step):
        return step.k_positions[:, None, None, :] <= step.q_positions[:, None, :, None] + 1


@wrong("model.attention", "causal")
class SoftmaxOverQueries(ByHand):
    def read(self, q, k, v, step):
        scores = (q @ k.transpose(-2, -1) * self.scale).masked_fill(~self.allowed(step), -1e9)
        return scores.softmax(-2) @ v


@wrong("model.attention", "reads_what_it_may")
class ReadsItselfAlone(ByHand):
    def read(self, q, k, v, step):
        return v


@wrong("model.attention", "reads_what_it_may")
class AlwaysAWindow(ByHand):
    def allowed(self, step):
        distance = step.q_positions[:, None, :, None] - step.k_positions[:, None, None, :]
        return super().allowed(step) & (distance < 4)


@wrong("model.attention", "padding_is_unread")
class ReadsPadding(ByHand):
    def allowed(self, step):
        index = torch.arange(step.k_positions.shape[-1])
        return index[None, None, None, :] <= index[-step.q_positions.shape[-1] :][None, None, :, None]


@wrong("model.attention", "decoding_equals_reading")
class CacheThatForgets(MultiHead):
    def new_cache(self, batch, capacity, device, dtype, slack=1):
        class Forgetful(KeyValueCache):
            def append(self, k, v):
                keys, values = super().append(k, v)
                return torch.cat([keys[:, :, :1] * 0, keys[:, :, 1:]], dim=2), values

        width = (self.kv_heads, self.d_head)
        return Forgetful(batch, capacity, width, width, device, dtype, slack)


@wrong("model.attention", "hears_rotations")
class TurnsValues(ByHand):
    def turned(self, q, k, v, step):
        q, k = self.position.rotate(q, k, step.q_positions, step.q_positions)
        return q, k, self.position.rotate(v, v, step.q_positions, step.q_positions)[1]


@wrong("model.attention", "hears_rotations")
class TurnsNothing(ByHand):
    def turned(self, q, k, v, step):
        return q, k, v


@wrong("model.attention", "hears_rotations")
class TurnsFromZeroEachTime(ByHand):
    def turned(self, q, k, v, step):
        at = step.q_positions - step.q_positions[:, :1]
        return *self.position.rotate(q, k, at, at), v


@wrong("model.attention", "hears_biases")
class BiasAfterTheSoftmax(ByHand):
    def read(self, q, k, v, step):
        scores = (q @ k.transpose(-2, -1) * self.scale).masked_fill(~self.allowed(step), -1e9)
        bias = self.position.score_bias(q, k, step.q_positions, step.k_positions)
        return (scores.softmax(-1) + (0 if bias is None else bias.masked_fill(~self.allowed(step), 0.0))) @ v


@wrong("model.attention", "shows_its_pattern")
class ShowsScoresInstead(ByHand):
    def read(self, q, k, v, step):
        if step.patterns is not None:
            step.patterns.append((q @ k.transpose(-2, -1) * self.scale).softmax(-1))
        return super().read(q, k, v, Step(step.q_positions, step.k_positions, step.context, plain=step.plain))


@wrong("model.attention", "kernels_agree")
class KernelsOfTwoScales(MultiHead):
    def __init__(
        self, shape, position, mask, *, kernel: Literal["sdpa", "eager"] = "sdpa", bias: bool = True
    ) -> None:
        super().__init__(shape, position, mask, kernel=kernel, bias=bias)
        self.scale = self.scale if kernel == "sdpa" else 1.0


@wrong("model.attention", "leaves_its_input_alone")
class WritesIntoItsInput(MultiHead):
    def forward(self, x, step):
        with torch.no_grad():
            x.mul_(1.001)
        return super().forward(x, step)


@wrong("model.attention", "rows_stand_alone")
class CentresOverTheBatch(MultiHead):
    def forward(self, x, step):
        return super().forward(x - x.mean(0, keepdim=True), step)


@wrong("model.attention", "gradients_reach_all")
class ParameterWithoutUse(MultiHead):
    def __init__(self, shape, position, mask) -> None:
        super().__init__(shape, position, mask)
        self.unused = nn.Parameter(torch.zeros(3, 3))


@wrong("model.attention", "gradients_reach_all")
class DetachedQueries(ByHand):
    def turned(self, q, k, v, step):
        return q.detach(), k.detach(), v.detach()


@wrong("model.attention", "shapes_hold")
class TwoHeadsForEver(GroupedQuery):
    def forward(self, x, step):
        y = super().forward(x, step)
        return y.view(*y.shape[:2], 2, 8).flatten(2)


@wrong("model.attention", "order_is_told_by_positions_alone")
class KnowsTheOrder(MultiHead):
    def forward(self, x, step):
        return super().forward(x * torch.linspace(0.5, 1.5, x.shape[1], dtype=x.dtype)[None, :, None], step)
