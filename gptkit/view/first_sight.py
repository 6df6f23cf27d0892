"""Pictures of parts in a small model that was built but not trained: blocks, embeddings, first weights, optimizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from gptkit.model.assemble import build
from gptkit.model.dry_run import bare_copy
from gptkit.model.gpt import GPT
from gptkit.pictures import Figure
from gptkit.pictures.svg import bars_figure, heatmap_figure, text_figure
from gptkit.registry import Component
from gptkit.schema import check
from gptkit.view.curves import falling
from gptkit.view.formula import block_formula

_SIZES = {"context_length": 24, "d_model": 64, "n_layers": 4, "n_heads": 4, "d_ff": 256, "vocab_size": 64}
_STEPS = 60

Options = Mapping[str, Any]


def _small(slot: str, component: Component, options: Options) -> GPT:
    parts = {"position": "none", slot: {"name": component.name, **options}}
    return build(check({"model": {**_SIZES, **parts}, "seed": 1}), vocab_size=_SIZES["vocab_size"])


def block(component: Component, options: Options) -> Iterator[Figure]:
    """What a block computes, line by line."""
    lines, _ = block_formula(bare_copy(_small("block", component, options)), 1)
    if lines:
        yield text_figure([[(line, "strong" if line is lines[-1] else "")] for line in lines], width=460)


def embedding(component: Component, options: Options) -> Iterator[Figure]:
    """What 24 tokens become before anything was learned."""
    model = _small("embedding", component, options).eval()
    tokens = torch.arange(_SIZES["context_length"]).unsqueeze(0)
    with torch.no_grad():
        rows = model.embedding(tokens, tokens)[0].numpy()
    yield heatmap_figure(
        rows, "The vectors of 24 tokens, at first", across="dimension", down="token", width=340
    )


def init(component: Component, options: Options) -> Iterator[Figure]:
    """How widely the first weights of each kind of matrix are spread."""
    spread: dict[str, list[float]] = {}
    for name, parameter in _small("init", component, options).named_parameters():
        if parameter.ndim > 1:
            kind = ".".join(word for word in name.removesuffix(".weight").split(".") if not word.isdigit())
            spread.setdefault(kind, []).append(float(parameter.detach().std()))
    means = {kind: sum(found) / len(found) for kind, found in spread.items()}
    most = max(means.values())
    bars = [(kind, mean / most, f"{mean:.3g}") for kind, mean in means.items()]
    yield bars_figure(bars, "Standard deviation of the first weights", label=200, value=70)


def optimizer(component: Component, options: Options) -> Iterator[Figure]:
    """How fast the loss of a small model falls on one batch that it sees again and again."""
    model = build(
        check({"model": {**_SIZES, "position": "learned"}, "seed": 1}), vocab_size=_SIZES["vocab_size"]
    )
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, _SIZES["vocab_size"], (4, _SIZES["context_length"] + 1), generator=draw)
    made = component.load()(**options).build(model)
    losses = []
    for _ in range(_STEPS + 1):
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        losses.append(loss.item())
        made.zero_grad()
        loss.backward()
        made.step()
    yield falling(losses, "The loss on one batch, at the default rate")
