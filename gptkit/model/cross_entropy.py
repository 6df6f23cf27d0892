"""The loss of a large vocabulary, without its logits.

The logits of a batch are its largest tensor by far: 50,257 numbers a token. They are needed only to
be reduced to one number a token, and their gradient only to be multiplied back, so both are done a
few hundred tokens at a time (the idea of Wijmans et al. 2024 and of the Liger kernels, Hsu et al.
2024, in plain PyTorch).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gptkit.model.tied import taken

IGNORED = -100
_CHUNK = 1 << 24  # logits at once: 64 MiB in float32
_CPU_CHUNK = 1 << 22  # a CPU gains nothing by more
_BLOCK = 1 << 21  # numbers of a product at once, on a CPU


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    reduction: Literal["mean", "sum"] = "mean",
    chunk: int | None = None,
) -> Tensor:
    """Cross-entropy of `x @ weight.T + bias` against `targets`, in nats.

    Args:
        x: [..., D].
        weight: [V, D].
        bias: [V] or None.
        targets: [...] token numbers; -100 counts for nothing.
        reduction: over the targets that count; the mean over none is 0.
        chunk: how many logits may exist at once; 2^22 on a CPU and 2^24 elsewhere if left out.

    Returns:
        A scalar, float32 or wider.
    """
    x, targets = x.reshape(-1, x.shape[-1]), targets.reshape(-1)
    if chunk is None:
        chunk = _CPU_CHUNK if x.device.type == "cpu" else _CHUNK
    if x.shape[0] * weight.shape[0] <= chunk:
        logits = F.linear(x, weight, bias)
        exact = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        total = F.cross_entropy(exact, targets, ignore_index=IGNORED, reduction="sum")
    else:
        rows, learning = max(1, chunk // weight.shape[0]), torch.is_grad_enabled()
        total = _ChunkedCrossEntropy.apply(x, taken(weight), bias, targets, rows, learning)
    if reduction == "sum":
        return total
    return total / (targets != IGNORED).sum().clamp(min=1)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy whose gradients are made in the forward pass, while the logits exist."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rows: int, learning: bool
    ) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        wants = [learning and need for need in ctx.needs_input_grad]  # evaluation makes no gradients
        with torch.autocast(device, enabled=False):
            table = weight.to(dtype)
            exact = torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
            grad_x = torch.empty_like(x) if wants[0] else None
            grad_weight = torch.zeros_like(weight) if wants[1] else None
            grad_bias = torch.zeros_like(bias) if bias is not None and wants[2] else None
            total = x.new_zeros((), dtype=exact)
            # Each chunk is computed where the last one was: fresh memory costs a CPU more than the sums do.
            narrow_room = x.new_empty(min(rows, x.shape[0]), weight.shape[0], dtype=dtype)
            room = narrow_room if exact == dtype else torch.empty_like(narrow_room, dtype=exact)
            for start in range(0, x.shape[0], rows):
                part = slice(start, start + rows)
                hidden, aim = x[part].to(dtype), targets[part]
                narrow, logits = narrow_room[: len(aim)], room[: len(aim)]
                torch.mm(hidden, table.t(), out=narrow)
                if logits is not narrow:
                    logits.copy_(narrow)
                if bias is not None:
                    logits += bias
                counted = (aim != IGNORED).unsqueeze(-1)
                index = aim.clamp(min=0).unsqueeze(-1)
                aimed = logits.gather(-1, index)
                top = logits.amax(-1, keepdim=True)
                slope = logits.sub_(top).exp_()
                mass = slope.sum(-1, keepdim=True)
                total += (mass.log() + top - aimed).masked_fill(~counted, 0.0).sum()
                if not any(wants[:3]):
                    continue
                slope.div_(mass).scatter_add_(-1, index, slope.new_full(index.shape, -1.0))
                slope.masked_fill_(~counted, 0.0)
                if grad_bias is not None:
                    grad_bias += slope.sum(0)
                if narrow is not slope:
                    narrow.copy_(slope)
                if grad_x is not None:
                    grad_x[part] = narrow @ table
                if grad_weight is not None:
                    _add_product(grad_weight, narrow.t(), hidden)
        ctx.gradients = (grad_x, grad_weight, grad_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if ctx.gradients is None:
            raise RuntimeError("The gradients of this loss were already taken; compute the loss anew.")
        made, ctx.gradients = ctx.gradients, None  # scaled in place: they are as large as the weights
        return *(None if g is None else g.mul_(grad.to(g.dtype)) for g in made), None, None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total += left @ right`, where the product may have fewer bits than the total.

    A CPU takes a few rows at a time, so that the product stays in its cache until it is added.
    """
    if left.dtype == total.dtype:
        total.addmm_(left, right)
        return
    if total.device.type != "cpu":
        total += left @ right
        return
    size = min(total.shape[0], max(1, _BLOCK // total.shape[1]))
    narrow = left.new_empty(size, total.shape[1])
    wide = torch.empty_like(narrow, dtype=total.dtype)
    for start in range(0, total.shape[0], size):
        block = total[start : start + size]
        torch.mm(left[start : start + size], right, out=narrow[: len(block)])
        block += wide[: len(block)].copy_(narrow[: len(block)])
