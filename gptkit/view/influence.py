"""What each output of attention hears of each token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gptkit.model.assemble import build
from gptkit.model.interfaces import Step
from gptkit.pictures import Figure
from gptkit.pictures.svg import heatmap_figure
from gptkit.registry import Component
from gptkit.schema import check

_SIZES = {"context_length": 24, "d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 64, "vocab_size": 32}


def attention(component: Component, options: Mapping[str, Any]) -> Iterator[Figure]:
    """How strongly each output depends on each token."""
    yield heatmap_figure(
        heard(component, options),
        "What an output hears of each token",
        across="token",
        down="output",
        width=340,
    )


def heard(component: Component, options: Mapping[str, Any], probes: int = 8) -> np.ndarray:
    """The norm of the derivative of each output by each token, [outputs, tokens].

    Any attention can be asked so, with a pattern or without. The norm is estimated from random directions of
    the output: E |v J|^2 = |J|^2 for v of independent signs.
    """
    part, step, x = alone(component, options)
    out = part(x, step)
    draw = torch.Generator().manual_seed(2)
    squares = np.zeros((x.shape[1], x.shape[1]))
    for row in range(x.shape[1]):
        for _ in range(probes):
            signs = 2.0 * torch.randint(0, 2, (out.shape[-1],), generator=draw) - 1
            (slope,) = torch.autograd.grad(out[0, row] @ signs, x, retain_graph=True)
            squares[row] += slope[0].square().sum(-1).numpy() / probes
    return np.sqrt(squares)


def alone(component: Component, options: Mapping[str, Any]) -> tuple[Any, Step, Tensor]:
    """The part by itself, causal and without positions, with drawn weights; a step, and vectors to read in it."""
    parts = {"attention": {"name": component.name, **options}, "position": "none"}
    model = build(check({"model": {**_SIZES, **parts}, "seed": 1}), vocab_size=_SIZES["vocab_size"]).eval()
    part: Any = model.blocks[-1].attention
    draw = torch.Generator().manual_seed(1)
    for tensor in part.parameters():
        if tensor.ndim > 1:
            tensor.data.normal_(0, 1.5 * tensor.shape[-1] ** -0.5, generator=draw)
    tokens = torch.zeros(1, _SIZES["context_length"], dtype=torch.long)
    step = model.step(tokens, None, None, None, None, None)
    step.tokens = tokens
    x = torch.randn(1, tokens.shape[1], _SIZES["d_model"], generator=draw).requires_grad_()
    first: Any = model.blocks[0].attention
    first(x, step)  # a layer may hear the first one's values
    return part, step, x
