"""Attention whose heads mix their scores before the softmax and their patterns after it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.model.attention import GroupedQuery
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding, Step
from gptkit.model.kernels import allowed, score_bias
from gptkit.registry import register


@register("model.attention", "talking_heads")
class TalkingHeads(GroupedQuery):
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
        super().__init__(
            shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale, kernel="eager"
        )
        self.before = nn.Parameter(torch.eye(self.heads))
        self.after = nn.Parameter(torch.eye(self.heads))

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """Heads begin by keeping to themselves: then it is plain attention."""
        torch.nn.init.eye_(tensor)
        return True

    def read(self, q: Tensor, k: Tensor, v: Tensor, step: Step) -> Tensor:
        groups, may = self.heads // self.kv_heads, allowed(step, self.mask)
        full_k, full_v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        scores = torch.einsum("gh,bhts->bgts", self.before, self.scale * (q @ full_k.transpose(-2, -1)))
        bias = score_bias(q, k, step, self.position)
        scores = (scores if bias is None else scores + bias).masked_fill(~may, float("-inf"))
        exact = torch.float32 if scores.dtype in (torch.bfloat16, torch.float16) else scores.dtype
        pattern = scores.softmax(-1, dtype=exact).masked_fill(~may, 0.0).to(q.dtype)
        pattern = torch.einsum("gh,bhts->bgts", self.after, pattern)
        if step.patterns is not None:
            step.patterns.append(pattern)
        return F.dropout(pattern, self.dropout, self.training) @ full_v
