"""Three ways to compute softmax attention; all give the same numbers.

`eager` is the reference and keeps the pattern, `sdpa` is PyTorch's fused kernel and the default,
`flex` compiles the mask and the bias into the kernel on CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gptkit.errors import UserError
from gptkit.model.interfaces import DistanceBias, Mask, MaskContext, PositionalEncoding, Step
from gptkit.model.masks import dense

Kernel = Literal["sdpa", "eager", "flex"]
_PART = 256  # queries that meet their keys at once, on a CPU


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Step,
    *,
    position: PositionalEncoding,
    mask: Mask,
    scale: float,
    dropout: float = 0.0,
    kernel: Kernel = "sdpa",
    told: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """softmax(scale * q k^T + bias, over the keys that the mask allows) v.

    A query that may read nothing gives zeros.

    Args:
        q: [B, H, T, Dh].
        k: [B, Hkv, S, Dh], Hkv a divisor of H.
        v: [B, Hkv, S, Dv].
        told: the queries and keys, d_head wide, that a position's bias is computed from; q and k if left out.

    Returns:
        [B, H, T, Dv].
    """
    told = told or (q, k)
    if kernel == "flex" and step.patterns is None:
        return flex(q, k, v, step, position, mask, scale, told)
    if step.patterns is not None or kernel == "eager":
        bias = score_bias(*told, step, position)
        out, pattern = eager(q, k, v, allowed(step, mask), bias, scale, dropout)
        if step.patterns is not None:
            step.patterns.append(pattern)
        return out
    return sdpa(q, k, v, step, position, mask, scale, dropout, told)


def check(kernel: Kernel, dropout: float) -> None:
    """Whether a kernel can do what is asked of it.

    Raises:
        UserError: flex with dropout, which it does not know.
    """
    if kernel == "flex" and dropout > 0:
        raise UserError(
            f"kernel=flex knows no dropout on the attention pattern, but dropout={dropout}. "
            "Take kernel=sdpa, or dropout=0."
        )


def eager(
    q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, bias: Tensor | None, scale: float, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The formula as it is written; also returns the pattern [B, H, T, S].

    Args:
        allowed: [1|B, 1, T, S], true where a query may read a key.
        bias: [1|B, 1|H, T, S] or None.
    """
    scores = scale * products(q, k)
    pattern = softmax(scores if bias is None else scores + bias, allowed)
    return mixed(F.dropout(pattern, dropout), v), pattern


def products(q: Tensor, k: Tensor) -> Tensor:
    """q k^T of heads [B, H, T, Dh] with the heads of keys that they share, [B, Hkv, S, Dh]: [B, H, T, S]."""
    return q @ k.repeat_interleave(q.shape[1] // k.shape[1], dim=1).transpose(-2, -1)


def softmax(scores: Tensor, allowed: Tensor) -> Tensor:
    """The softmax of scores [B, H, T, S] over the keys that are allowed, at least in float32; a row that
    may read nothing is all zeros."""
    scores = scores.masked_fill(~allowed, float("-inf"))
    return scores.softmax(-1, dtype=exact(scores.dtype)).masked_fill(~allowed, 0.0).to(scores.dtype)


def mixed(pattern: Tensor, v: Tensor) -> Tensor:
    """The values [B, Hkv, S, Dv] that heads share, weighed by a pattern [B, H, T, S]: [B, H, T, Dv]."""
    return pattern @ v.repeat_interleave(pattern.shape[1] // v.shape[1], dim=1)


def exact(dtype: torch.dtype) -> torch.dtype:
    """The type that sums of exponentials are taken in: float32 for 16 bits."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Step,
    position: PositionalEncoding,
    mask: Mask,
    scale: float,
    dropout: float,
    told: tuple[Tensor, Tensor],
) -> Tensor:
    """PyTorch's fused kernel; without a dense mask wherever the mask is causal or forbids nothing."""
    length, keys = q.shape[-2], k.shape[-2]
    unpadded = step.context.k_padding is None
    causal = unpadded and step.plain and mask.causal_in(step.context)
    nothing_hidden = (causal and length == 1) or (unpadded and not mask.applies(step.context))
    triangle = causal and not nothing_hidden and length == keys
    options = {"dropout_p": dropout, "scale": scale, "enable_gqa": q.shape[1] != k.shape[1]}
    if triangle and isinstance(position, DistanceBias):
        return _triangle(q, k, v, lambda s, e: _corner(position, step, q.dtype, s, e), options)
    bias = score_bias(*told, step, position)
    if bias is None and (nothing_hidden or triangle):
        return F.scaled_dot_product_attention(q, k, v, is_causal=triangle, **options)
    if nothing_hidden:
        return F.scaled_dot_product_attention(q, k, v, bias, **options)
    may = allowed(step, mask)
    added = may if bias is None else bias.masked_fill(~may, float("-inf"))
    if triangle:
        return _triangle(q, k, v, lambda s, e: added[:, :, s:e, :e], options)
    out = F.scaled_dot_product_attention(q, k, v, added, **options)
    return out if mask.allows_self and unpadded else out.masked_fill(~may.any(-1, keepdim=True), 0.0)


def _triangle(
    q: Tensor, k: Tensor, v: Tensor, added: Callable[[int, int], Tensor], options: dict[str, Any]
) -> Tensor:
    """Causal attention with a bias; a CPU leaves out the keys that come after each part of a long text.

    Args:
        added: the bias of the queries from one place to another, at all keys before the second.
    """
    length = q.shape[-2]
    size = _PART if q.device.type == "cpu" else length
    parts = []
    for start in range(0, length, size):
        end = min(start + size, length)
        part = q[:, :, start:end], k[:, :, :end], v[:, :, :end]
        parts.append(F.scaled_dot_product_attention(*part, added(start, end), **options))
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def _corner(position: DistanceBias, step: Step, dtype: torch.dtype, start: int, end: int) -> Tensor:
    """The bias of the queries from `start` to `end` at the keys before `end`, [1, H, end - start, end].

    Keys after their query are put out of reach, by minus infinity.
    """
    key = ("corner", position, dtype, start, end)
    if key not in step.memo:
        down = torch.arange(end - 1, -(end - start), -1, device=step.q_positions.device)  # distances
        bias = position.bias_of(down).to(dtype).masked_fill(down < 0, float("-inf"))
        step.memo[key] = _diagonals(bias, end)
    return step.memo[key]


def _diagonals(bias: Tensor, keys: int) -> Tensor:
    """A bias by falling distance, [H, T + keys - 1], laid out for T queries of which the last meets the
    last key: [1, H, T, keys]."""
    return (
        bias.unfold(-1, keys, 1).flip(1).unsqueeze(0)
    )  # a query's row begins one further on than the next's


def allowed(step: Step, mask: Mask) -> Tensor:
    """The mask of this step as [1|B, 1, T, S], computed once for all layers that share it.

    What a batch says is padding is hidden whether or not the mask has a part for it: padding shares
    its positions with real tokens, so a mask of positions alone would let it be read.
    """
    key = ("allowed", mask)
    if key not in step.memo:
        may = dense(mask, step.q_positions, step.k_positions, step.context)
        if step.context.k_padding is not None:
            may = may & ~step.context.k_padding.unsqueeze(-2)
        step.memo[key] = may.unsqueeze(1)
    return step.memo[key]


def score_bias(q: Tensor, k: Tensor, step: Step, position: PositionalEncoding) -> Tensor | None:
    """The position's bias [1|B, 1|H, T, S]; one that depends on distance alone is computed once."""
    if isinstance(position, DistanceBias):
        return distance_bias(position, step, q.dtype)
    return position.score_bias(q, k, step.q_positions, step.k_positions)


def distance_bias(position: DistanceBias, step: Step, dtype: torch.dtype) -> Tensor:
    """The bias [1|B, H, T, S] of one that depends on distance alone, computed once for all layers.

    Where keys stand in order each distance is asked about once.
    """
    key = ("bias", position, dtype)
    if key not in step.memo:
        length, keys = step.q_positions.shape[-1], step.k_positions.shape[-1]
        if step.plain:
            down = torch.arange(keys - 1, -length, -1, device=step.q_positions.device)
            step.memo[key] = _diagonals(position.bias_of(down).to(dtype), keys)
        else:
            away = step.q_positions.unsqueeze(-1) - step.k_positions.unsqueeze(-2)  # [1|B, T, S]
            step.memo[key] = position.bias_of(away).transpose(0, 1).to(dtype)
    return step.memo[key]


def flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step: Step,
    position: PositionalEncoding,
    mask: Mask,
    scale: float,
    told: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """FlexAttention (Dong et al. 2024): mask and bias become part of the kernel.

    On CUDA it is compiled; elsewhere it runs uncompiled, forward only, as a check.

    Raises:
        UserError: gradients are asked for on the CPU.
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    if q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
        raise UserError("The flex kernel cannot be trained on a CPU. Take model.attention.kernel=sdpa.")

    if mask.has_end:
        allowed(step, mask)  # inside the kernel it could not refuse
    batch, _, length, _ = q.shape
    keys = k.shape[-2]
    mask_mod, score_mod = flex_closures(*(told or (q, k)), step, position, mask)
    key = ("blocks", mask)
    if key not in step.memo:
        step.memo[key] = create_block_mask(mask_mod, batch, None, length, keys, device=q.device)
    kernel = _compiled_flex() if q.is_cuda else flex_attention
    out = kernel(q, k, v, score_mod, step.memo[key], scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    if mask.allows_self and step.context.k_padding is None:
        return out  # type: ignore[return-value]
    return out.masked_fill(~allowed(step, mask).any(-1, keepdim=True), 0.0)  # type: ignore[union-attr]


def flex_closures(q: Tensor, k: Tensor, step: Step, position: PositionalEncoding, mask: Mask):
    """The same mask and bias as functions of single indices: `(mask_mod, score_mod or None)`."""
    context = step.context
    q_at, k_at = step.q_positions.expand(q.shape[0], -1), step.k_positions.expand(q.shape[0], -1)

    def mask_mod(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        element = MaskContext(
            k_padding=None if context.k_padding is None else context.k_padding[b, j],
            q_documents=None if context.q_documents is None else context.q_documents[b, i],
            k_documents=None if context.k_documents is None else context.k_documents[b, j],
            prefix=None if context.prefix is None else context.prefix[b],
            k_places=None if context.k_places is None else context.k_places[b, j],
        )
        may = mask.allows(q_at[b, i], k_at[b, j], element)
        return may if element.k_padding is None else may & ~element.k_padding

    if isinstance(position, DistanceBias) and step.plain:
        # A table, as a part's own code need not be fit to become part of a kernel.
        last = k.shape[-2] - 1
        table = position.bias_of(torch.arange(-last, last + 1, device=q.device)).to(q.dtype)  # [H, 2 S - 1]

        def by_distance(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return score + table[h, q_at[b, i] - k_at[b, j] + last]

        return mask_mod, by_distance
    bias = position.score_bias(q, k, step.q_positions, step.k_positions)
    if bias is None:
        return mask_mod, None
    full = bias.expand(q.shape[0], q.shape[1], -1, -1)

    def by_table(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score + full[b, h, i, j]

    return mask_mod, by_table


_flex_kernel = None


def _compiled_flex():
    global _flex_kernel
    if _flex_kernel is None:
        from torch.nn.attention.flex_attention import flex_attention

        _flex_kernel = torch.compile(flex_attention, dynamic=False)
    return _flex_kernel
