"""The small models that pictures of parts are drawn with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gptkit.model.assemble import build
from gptkit.model.gpt import GPT
from gptkit.schema import check

_SIZES = {"context_length": 24, "d_model": 64, "n_layers": 4, "n_heads": 4, "d_ff": 256, "vocab_size": 64}


def small(parts: Mapping[str, Any], **sizes: int) -> GPT:
    """A model as it is first drawn from seed 1.

    Args:
        parts: of the section `model`; no positions are told unless a part tells them.
        sizes: other than four layers, a width of 64 and texts of 24 of 64 tokens.
    """
    section = {**_SIZES, **sizes, "position": "none", **parts}
    return build(check({"model": section, "seed": 1}), vocab_size=section["vocab_size"])


def batch(model: GPT) -> tuple[Tensor, Tensor]:
    """Four texts of random tokens, and the token after each."""
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, model.shape.vocab_size, (4, model.shape.context_length + 1), generator=draw)
    return tokens[:, :-1], tokens[:, 1:]


def train(model: GPT, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    """Train on one batch again and again.

    Returns:
        The loss before each step, and after the last.
    """
    tokens, targets = batch(model)
    losses = []
    for _ in range(steps):
        loss = model.loss(tokens, targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return [*losses, model.loss(tokens, targets).item()]
