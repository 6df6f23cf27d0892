"""How blocks with several residual streams mix them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gptkit import registry
from gptkit.model.gpt import GPT
from gptkit.model.interfaces import Block
from gptkit.pictures import Figure
from gptkit.view.small import batch, train

_STEPS, _DRAWS = 120, 16
_WIDE, _TALL, _GAP = 24.0, 22.0, 14.0  # of a cell, and between matrices


def streams(model: GPT) -> Figure:
    """What each stream after a block hears of each stream before it, at first and after 120 steps of AdamW."""
    first = mixing(model)
    train(model, registry.load("optimizer", "adamw")().build(model), _STEPS)
    rows = [("as it is first drawn", first), (f"after {_STEPS} steps of AdamW on one batch", mixing(model))]
    wide, tall = len(first[0]) * _WIDE + _GAP, len(first[0]) * _TALL + 34
    body = [
        '<text class="title" y="12">What each stream hears of each, block by block</text>',
        '<text class="small" y="30">row: a stream after the block; column: a stream before it</text>',
    ]
    for row, (name, matrices) in enumerate(rows):
        y = 40 + row * tall
        body.append(f'<text class="small" y="{y + 16:g}">{name}</text>')
        body += [_cells(matrix).at(column * wide, y + 24) for column, matrix in enumerate(matrices)]
    return Figure(len(first) * wide - _GAP, 30 + len(rows) * tall, "".join(body))


def mixing(model: GPT) -> list[np.ndarray]:
    """For each block, the norm of the derivative of each stream after it by each before, [streams, streams].

    A stream that goes on as it is has 1. The norm is estimated from random directions: E |v J|^2 = |J|^2
    for v of independent signs.
    """
    model.eval()
    tokens, _ = batch(model)
    step = model.step(tokens, None, None, None, None, None)
    step.tokens = tokens
    blocks: list[Block] = list(model.blocks)  # type: ignore[arg-type]
    x = blocks[0].enter(model.embedding(tokens, step.q_positions))
    found = []
    for block in blocks:
        x = x.detach().requires_grad_()
        out = block(x, step)
        found.append(_slopes(out, x))
        x = out
    model.train()
    return found


def _slopes(out: Tensor, x: Tensor) -> np.ndarray:
    draw = torch.Generator().manual_seed(2)
    squares = np.zeros((out.shape[-2], x.shape[-2]))
    for row, stream in enumerate(out.unbind(-2)):
        for _ in range(_DRAWS):
            signs = 2.0 * torch.randint(0, 2, stream.shape, generator=draw) - 1
            (slope,) = torch.autograd.grad((stream * signs).sum(), x, retain_graph=True)
            squares[row] += slope.square().sum((0, 1, 3)).numpy() / (_DRAWS * stream.numel())
    return np.sqrt(squares)


def _cells(matrix: np.ndarray) -> Figure:
    """A matrix of numbers, the greater the bluer; what rounds to nought stays empty."""
    body = []
    for (row, column), value in np.ndenumerate(matrix):
        x, y = column * _WIDE, row * _TALL
        shade = 0.6 * min(1.0, value)
        size = f'width="{_WIDE - 2:g}" height="{_TALL - 2:g}" rx="2"'
        body.append(f'<rect class="off" x="{x:g}" y="{y:g}" {size}/>')
        if value >= 0.05:
            centre = f'x="{x + _WIDE / 2 - 1:g}" y="{y + 14:g}" text-anchor="middle"'
            body.append(f'<rect class="on" fill-opacity="{shade:.2f}" x="{x:g}" y="{y:g}" {size}/>')
            body.append(f'<text {centre} style="font-size: 11px">{value:.1f}</text>')
    return Figure(matrix.shape[1] * _WIDE - 2, matrix.shape[0] * _TALL - 2, "".join(body))
