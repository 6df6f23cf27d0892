"""Pictures of parts in a small model that was built but not trained: blocks, embeddings, first weights, optimizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from gptkit.model.dry_run import bare_copy
from gptkit.pictures import Figure
from gptkit.pictures.svg import bars_figure, heatmap_figure, text_figure
from gptkit.registry import Component
from gptkit.view.curves import falling
from gptkit.view.formula import block_formula
from gptkit.view.small import small, train
from gptkit.view.streams import streams

_STEPS = 60

Options = Mapping[str, Any]


def block(component: Component, options: Options) -> Iterator[Figure]:
    """What a block computes, line by line; of one with several residual streams, how it mixes them."""
    model = small({"block": {"name": component.name, **options}})
    lines, _ = block_formula(bare_copy(model), 1)
    if lines:
        yield text_figure([[(line, "strong" if line is lines[-1] else "")] for line in lines], width=460)
    if model.blocks[0].streams != 1:
        yield streams(model)


def embedding(component: Component, options: Options) -> Iterator[Figure]:
    """What 24 tokens become before anything was learned."""
    model = small({"embedding": {"name": component.name, **options}}).eval()
    tokens = torch.arange(model.shape.context_length).unsqueeze(0)
    with torch.no_grad():
        rows = model.embedding(tokens, tokens)[0].numpy()
    yield heatmap_figure(
        rows, "The vectors of 24 tokens, at first", across="dimension", down="token", width=340
    )


def init(component: Component, options: Options) -> Iterator[Figure]:
    """How widely the first weights of each kind of matrix are spread."""
    spread: dict[str, list[float]] = {}
    for name, parameter in small({"init": {"name": component.name, **options}}).named_parameters():
        if parameter.ndim > 1:
            kind = ".".join(word for word in name.removesuffix(".weight").split(".") if not word.isdigit())
            spread.setdefault(kind, []).append(float(parameter.detach().std()))
    means = {kind: sum(found) / len(found) for kind, found in spread.items()}
    most = max(means.values())
    bars = [(kind, mean / most, f"{mean:.3g}") for kind, mean in means.items()]
    yield bars_figure(bars, "Standard deviation of the first weights", label=200, value=70)


def optimizer(component: Component, options: Options) -> Iterator[Figure]:
    """How fast the loss of a small model falls on one batch that it sees again and again."""
    model = small({"position": "learned"})
    losses = train(model, component.load()(**options).build(model), _STEPS)
    yield falling(losses, "The loss on one batch, at the default rate")
