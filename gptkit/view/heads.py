"""What a head makes of a vector, and what each place of a text learns through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from gptkit.model.gpt import GPT
from gptkit.pictures import Figure
from gptkit.pictures.svg import heatmap_figure
from gptkit.registry import Component
from gptkit.view.curves import crossing
from gptkit.view.small import small

_SIZES = {"context_length": 12, "d_model": 128, "n_layers": 1}
_REACH, _POINTS, _ROWS = 60.0, 161, 32


def head(component: Component, options: Mapping[str, Any]) -> Iterator[Figure]:
    """Which tokens each place learns to predict; the logit of a token where its vector times x is a number."""
    model = small({"head": {"name": component.name, **options}}, **_SIZES)
    yield heatmap_figure(
        learned(model), "What each place learns to predict",
        note="how much of the gradient at a place is due to each token",
        across="token", down="place", width=400,
    )  # fmt: skip
    row = model.embedding.weight[0].detach()
    plain = torch.linspace(-_REACH, _REACH, _POINTS)
    with torch.no_grad():
        logits = model.head(plain.unsqueeze(-1) * row / row.square().sum())[:, 0]
    points = list(zip(plain.tolist(), logits.tolist(), strict=True))
    yield crossing(points, _REACH, f"The logit of a token, by x · w, at width {model.shape.d_model}")


def learned(model: GPT) -> np.ndarray:
    """How much of the gradient at each place is due to each token, [places, tokens]: its mean norm in 32 texts.

    The target at place t is token t + 1. The share of one is the change of the gradient when it counts
    for nothing.
    """
    shape, draw = model.shape, torch.Generator().manual_seed(1)
    places = shape.context_length
    x = torch.randn(_ROWS, places, shape.d_model, generator=draw).requires_grad_()
    targets = torch.randint(0, shape.vocab_size, (_ROWS, places), generator=draw)

    def slope(aims: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(model.head.loss(x, aims, "sum"), x)[0]

    whole, found = slope(targets), np.zeros((places, places + 1))
    for place in range(places):
        without = targets.clone()
        without[:, place] = -100
        found[:, place + 1] = (whole - slope(without)).norm(dim=-1).mean(0).numpy()
    return found
