"""muP: its factors against the table of the paper, and the rate that serves every width."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gptkit import registry
from gptkit.errors import ConfigError, UserError
from gptkit.model.assemble import build, part
from tiny import close, shape, some_tokens, tiny  # pyright: ignore[reportMissingImports]

Optimizer: Any = registry.load("optimizer", "mup_adamw")
from gptkit_mup import transfer  # noqa: E402


@pytest.mark.parametrize("tied", [True, False])
def test_scores_shrink_with_the_width(tied: bool) -> None:
    head = {"name": "mup", "tied": tied, "bias": True, "base_width": 4, "multiplier": 3.0}
    model = tiny(head=head)
    tokens = some_tokens()
    x = model.hidden(tokens)
    table = model.embedding.weight if tied else model.head.table
    scores = torch.einsum("btd,vd->btv", x, table) * 3 * 4 / 16 + model.head.bias
    close(model(tokens), scores)
    expected = -scores[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None]).mean()
    close(model.loss(tokens[:, :-1], tokens[:, 1:]), expected)


def named(width: int, **init: Any) -> dict[str, Tensor]:
    head = {"name": "mup", "tied": False, "base_width": 16}
    model = {"context_length": 16, "d_model": width, "n_layers": 2, "n_heads": 4, "head": head}
    parts = {**model, "init": {"name": "mup", "base_width": 16, "std": 0.5, **init}}
    return dict(build({"model": parts}, vocab_size=100).named_parameters())


@pytest.mark.parametrize("width", [16, 64])
def test_the_first_weights_are_the_table(width: int) -> None:
    inside = 0.5 / math.sqrt(width / 16)
    for name, value in named(width, zero_head=False).items():
        std = value.detach().square().mean().sqrt().item()
        if value.ndim < 2:
            assert std == (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        elif name.endswith(("out.weight", "down.weight")):
            assert std == pytest.approx(inside / 2, rel=0.1)
        else:
            assert std == pytest.approx(inside if name.startswith("blocks") else 0.5, rel=0.1), name
    assert not named(width)["head.table"].any()


@pytest.mark.parametrize("tied", [True, False])
def test_rates_and_decay_are_the_table(tied: bool) -> None:
    model = tiny(head={"name": "mup", "tied": tied, "base_width": 4})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = Optimizer(lr=0.1, base_width=4, weight_decay=0.5, eps=0.0).build(model)
    assert optimizer.param_groups[0]["lr"] == 0.1
    for p in model.parameters():
        p.grad = torch.full_like(p, -2.0)
    optimizer.step()
    for name, p in model.named_parameters():
        lr = 0.1 * 4 / 16 if name.startswith("blocks.") and p.ndim == 2 else 0.1
        decay = 0.1 * 0.5 if p.ndim == 2 else 0.0  # the same share at any width
        close(p.detach(), before[name] * (1 - decay) + lr)  # Adam's first step is lr sign(g)


def test_at_the_base_width_it_is_the_standard_model_and_adamw() -> None:
    losses = [transfer.train(transfer.model_of(64, mup), 2**-8, mup, 4) for mup in (False, True)]
    assert losses[0] == losses[1]


def test_the_best_rate_stays_with_mup_and_moves_without() -> None:
    rates = [2.0**-k for k in (11, 10, 9, 8, 7)]

    def best(width: int, mup: bool) -> int:
        losses = transfer.sweep(width, mup, rates, 24, 1)
        return losses.index(min(losses))

    base = best(64, True)
    assert 0 < base < 4  # a minimum that is seen, not the end of the rates
    assert abs(best(128, True) - base) <= 1
    assert abs(best(192, True) - base) <= 1
    assert base - best(192, False) >= 2


def sizes(width: int, mup: bool) -> list[float]:
    """How far the stream and the scores moved in five steps, root mean square."""
    model = transfer.model_of(width, mup)
    tokens = transfer.batch(0)[:, :-1]
    with torch.no_grad():
        before = model.hidden(tokens), model(tokens)
    transfer.train(model, 2**-8, mup, 5)
    with torch.no_grad():
        after = model.hidden(tokens), model(tokens)
    return [(b - a).square().mean().sqrt().item() for a, b in zip(before, after, strict=True)]


def test_what_a_few_steps_change_does_not_grow_with_the_width() -> None:
    narrow, wide, standard = sizes(64, True), sizes(256, True), sizes(256, False)
    for small, large in zip(narrow, wide, strict=True):
        assert large < 1.3 * small
    assert standard[1] > 2 * wide[1]  # scores without muP


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.base_width"):
        Optimizer(base_width=0)
    for slot, given in (("init", (shape(),)), ("head", (shape(), None))):
        with pytest.raises(UserError, match="base_width"):
            part(slot, {"name": "mup", "base_width": 0}, *given)
