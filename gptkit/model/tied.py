"""One gradient for a table that is read twice: looked up at the bottom, and by a tied head at the top.

The gradient of the lookups has few rows that are not nought, yet autograd makes it as large as the
table before it adds the head's. On a CPU, where such a tensor is a tenth of a training step's memory,
the rows are added to the head's gradient instead, which is there before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_LARGE = 1 << 22  # numbers of a table that are worth it
_waiting: ContextVar[dict[int, Tensor] | None] = ContextVar("_waiting", default=None)


@contextmanager
def one_gradient() -> Iterator[None]:
    """While this lasts, `taken` gives what `lookup` read under a name that shares its gradient."""
    before = _waiting.set({})
    try:
        yield
    finally:
        _waiting.reset(before)


def lookup(tokens: Tensor, weight: Tensor) -> Tensor:
    """The rows of a table: [...] token numbers and [V, D] -> [..., D]."""
    waiting = None if torch.compiler.is_compiling() else _waiting.get()
    whole = type(weight) is nn.Parameter and weight.device.type == "cpu"  # no part of one, as a DTensor is
    if waiting is None or not whole or weight.numel() < _LARGE or not torch.is_grad_enabled():
        return F.embedding(tokens, weight)
    rows, waiting[id(weight)] = _Lookup.apply(tokens, weight)
    return rows


def taken(weight: Tensor) -> Tensor:
    """A table that was looked up, for one reader that gives it a gradient of its own making; once."""
    waiting = None if torch.compiler.is_compiling() else _waiting.get()
    return waiting.pop(id(weight), weight) if waiting else weight


class _Lookup(torch.autograd.Function):
    """The rows, and the table itself; adds what becomes of the rows to what becomes of the table."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.tokens, ctx.size = tokens, weight.shape[0]
        return F.embedding(tokens, weight), weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rows: Tensor | None, grad_table: Tensor | None) -> tuple[None, Tensor | None]:  # type: ignore[override]
        if grad_rows is None:
            return None, grad_table
        if grad_table is None:
            return None, torch.ops.aten.embedding_dense_backward(grad_rows, ctx.tokens, ctx.size, -1, False)
        return None, grad_table.index_add_(0, ctx.tokens.reshape(-1), grad_rows.flatten(0, -2))
