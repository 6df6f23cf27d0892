"""One attention layer by itself, for tests that hold it against its formula written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from gptkit.model.assemble import part
from gptkit.model.interfaces import MaskContext, ModelShape, Step

AT = torch.arange(6)[None]  # where the tokens of `X` stand, [1, T]
X = torch.randn(1, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))  # [1, T, D]


def shape(**sizes: int) -> ModelShape:
    """Small sizes that fit `X`: two heads of four numbers; some of them changed."""
    return replace(ModelShape(5, 8, 8, 2, 2, 2, 4, 8), **sizes)


def built(sizes: ModelShape, position: str = "none", **node: Any) -> Any:
    """An attention under the causal mask, with weights drawn anew, in float64.

    Args:
        sizes: from `shape`.
        position: by name.
        node: the attention's name and options.
    """
    made = part("attention", node, sizes, part("position", position, sizes), part("mask", "causal")).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
    return made.eval()


def step(**options: Any) -> Step:
    """A pass over all of `X`."""
    return Step(AT, AT, MaskContext(), **options)
