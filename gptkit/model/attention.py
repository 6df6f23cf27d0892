"""How tokens read one another: the attention forms of the explainer."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.errors import UserError, check_options
from gptkit.model.cache import KeyValueCache
from gptkit.model.interfaces import Attention, Mask, ModelShape, PositionalEncoding, Step, mark
from gptkit.model.kernels import Kernel, allowed, attend, check, mixed, products, score_bias, softmax
from gptkit.model.options import pattern_rules
from gptkit.registry import register


@register("model.attention", "grouped_query")
class GroupedQuery(Attention):
    """Softmax attention whose query heads share fewer heads of keys and values (Ainslie et al. 2023).

    softmax(q k^T / sqrt(d_head) + bias, where the mask allows) v, heads side by side, then one map
    back to d_model. With `n_kv_heads=1` it is multi-query attention (Shazeer 2019).

    A variant overrides `place`, what is done to queries and keys before they are kept, or `read`, how
    they weigh the values.

    Args:
        bias: whether the linear maps have biases.
        out_bias: whether the map back has one; null takes `bias` (Qwen 2: only q, k and v have biases).
        dropout: rate on the attention pattern.
        scale: factor on q k^T; null takes 1 / sqrt(d_head).
        kernel: sdpa (fused), eager (the formula as written) or flex (compiled, CUDA).
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
        kernel: Literal["sdpa", "eager", "flex"] = "sdpa",
    ) -> None:
        super().__init__(shape, position, mask)
        self.heads, self.kv_heads, self.d_head = shape.n_heads, shape.n_kv_heads, shape.d_head
        check_options("model.attention", *pattern_rules(dropout, scale))
        check(kernel, dropout)
        self.dropout = dropout
        self.kernel: Kernel = kernel
        self.scale = self.d_head**-0.5 if scale is None else scale
        self.qkv = nn.Linear(shape.d_model, (self.heads + 2 * self.kv_heads) * self.d_head, bias=bias)
        back = bias if out_bias is None else out_bias
        self.out = mark(nn.Linear(self.heads * self.d_head, shape.d_model, bias=back), "residual")

    def forward(self, x: Tensor, step: Step) -> Tensor:
        q, k, v = self.project(x)
        q, k = self.place(q, k, step)
        if step.cache is not None:
            k, v = step.cache.append(k, v)
        y = self.read(q, k, v, step)
        return self.out(y.transpose(1, 2).flatten(2))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, Dh], and keys and values [B, Hkv, T, Dh], of this step's tokens."""
        qkv = self.qkv(x).unflatten(-1, (-1, self.d_head)).transpose(1, 2)  # [B, H + 2 Hkv, T, Dh]
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        return q, k, v

    def place(self, q: Tensor, k: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Queries [B, H, T, Dh] and keys [B, Hkv, T, Dh] of this step, told where they stand."""
        return self.position.rotate(q, k, step.q_positions, step.q_positions)

    def read(self, q: Tensor, k: Tensor, v: Tensor, step: Step) -> Tensor:
        """What each query takes from the values [B, Hkv, S, Dh] of all tokens held: [B, H, T, Dh]."""
        return attend(
            q, k, v, step, position=self.position, mask=self.mask, scale=self.scale,
            dropout=self.dropout if self.training else 0.0, kernel=self.kernel,
        )  # fmt: skip

    def new_cache(
        self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype, slack: int = 1
    ) -> KeyValueCache:
        width = (self.kv_heads, self.d_head)
        return KeyValueCache(batch, capacity, width, width, device, dtype, slack)


class PatternAttention(GroupedQuery):
    """Attention whose pattern is written out, for variants that change the scores or the weights.

    A variant overrides `bend`, what is done to the scores before a position's bias is added, or
    `pattern`, how scores become weights. `T x S` numbers are kept for each head.

    Args:
        bias, out_bias, dropout, scale: as of `GroupedQuery`.
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

    def read(self, q: Tensor, k: Tensor, v: Tensor, step: Step) -> Tensor:
        scores, bias = self.bend(self.scale * products(q, k)), score_bias(q, k, step, self.position)
        pattern = self.pattern(scores if bias is None else scores + bias, allowed(step, self.mask), step)
        if step.patterns is not None:
            step.patterns.append(pattern)
        return mixed(F.dropout(pattern, self.dropout, self.training), v)

    def bend(self, scores: Tensor) -> Tensor:
        """Scores [B, H, T, S] without a position's bias."""
        return scores

    def pattern(self, scores: Tensor, allowed: Tensor, step: Step) -> Tensor:
        """The weight of each key, [B, H, T, S], zero where `allowed` [1|B, 1, T, S] is false."""
        return softmax(scores, allowed)


@register("model.attention", "multi_head")
class MultiHead(GroupedQuery):
    """Softmax attention with several heads, each with keys and values of its own (Vaswani et al. 2017)."""

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        scale: float | None = None,
        kernel: Literal["sdpa", "eager", "flex"] = "sdpa",
    ) -> None:
        if shape.n_kv_heads != shape.n_heads:
            raise UserError(
                f"multi_head gives each of its {shape.n_heads} heads its own keys, but model.n_kv_heads="
                f"{shape.n_kv_heads}. Take model/attention=grouped_query, or model.n_kv_heads=null."
            )
        super().__init__(shape, position, mask, bias=bias, dropout=dropout, scale=scale, kernel=kernel)


@register("model.attention", "summed_heads")
class SummedHeads(Attention):
    """The explainer's attention: each head maps values from d_model to d_model, and heads are summed.

    p'_i = sum over heads of softmax_j(q_i . k_j / sqrt(m)) v_j, with q and k of m = d_head numbers and
    v of d_model. Multi-head attention is the same with each head's value map of rank d_head at most
    (Elhage et al. 2021).

    Args:
        bias: whether the linear maps have biases.
        dropout: rate on the attention pattern.
        scale: factor on q k^T; null takes 1 / sqrt(d_head).
        kernel: sdpa (fused), eager (the formula as written) or flex (compiled, CUDA).
    """

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        bias: bool = False,
        dropout: float = 0.0,
        scale: float | None = None,
        kernel: Literal["sdpa", "eager", "flex"] = "sdpa",
    ) -> None:
        super().__init__(shape, position, mask)
        self.heads, self.d_head = shape.n_heads, shape.d_head
        check_options("model.attention", *pattern_rules(dropout, scale))
        check(kernel, dropout)
        self.dropout = dropout
        self.kernel: Kernel = kernel
        self.scale = self.d_head**-0.5 if scale is None else scale
        self.qk = nn.Linear(shape.d_model, 2 * self.heads * self.d_head, bias=bias)
        self.value = mark(nn.Linear(shape.d_model, self.heads * shape.d_model, bias=bias), "residual")

    def forward(self, x: Tensor, step: Step) -> Tensor:
        q, k, v = self.project(x, step)
        y = attend(
            q, k, v, step, position=self.position, mask=self.mask, scale=self.scale,
            dropout=self.dropout if self.training else 0.0, kernel=self.kernel,
        )  # fmt: skip
        return y.sum(1)

    def project(self, x: Tensor, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, Dh], and keys [B, H, S, Dh] and values [B, H, S, D] of all tokens held."""
        batch, length, width = x.shape
        q, k = self.qk(x).view(batch, length, 2 * self.heads, self.d_head).transpose(1, 2).chunk(2, dim=1)
        v = self.value(x).view(batch, length, self.heads, width).transpose(1, 2)
        q, k = self.position.rotate(q, k, step.q_positions, step.q_positions)
        if step.cache is not None:
            k, v = step.cache.append(k, v)
        return q, k, v

    def new_cache(
        self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype, slack: int = 1
    ) -> KeyValueCache:
        keys, values = (self.heads, self.d_head), (self.heads, self.shape.d_model)
        return KeyValueCache(batch, capacity, keys, values, device, dtype, slack)


@register("model.attention", "unnormalised")
class Unnormalised(SummedHeads):
    """The explainer's first formula, which it calls false: P' = P + Q K^T V, without a softmax.

    Scores weigh the values as they are: nothing bounds them, they may be negative, and they grow
    with the number of tokens. The mask sets scores to zero.

    Args:
        bias: whether the linear maps have biases.
        scale: factor on q k^T; the formula has none.
    """

    expected_failures: ClassVar = {"hears_biases": "without a softmax no bias puts a token out of reach"}

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        bias: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__(shape, position, mask, bias=bias, scale=scale)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        q, k, v = self.project(x, step)
        scores = self.scale * (q @ k.transpose(-2, -1))  # [B, H, T, S]
        bias = score_bias(q, k, step, self.position)
        pattern = (scores if bias is None else scores + bias).masked_fill(~allowed(step, self.mask), 0.0)
        if step.patterns is not None:
            step.patterns.append(pattern)
        return (pattern @ v).sum(1)
