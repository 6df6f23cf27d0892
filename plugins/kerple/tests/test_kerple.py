"""Kerple against its formulas, and at distance zero."""

from __future__ import annotations

import math

import pytest
import torch

from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(
    vocab_size=5, context_length=8, d_model=6, n_layers=1, n_heads=3, n_kv_heads=3, d_head=2, d_ff=8
)


@pytest.mark.parametrize("name", ["kerple_log", "kerple_power"])
def test_it_is_its_formula(name: str) -> None:
    made = part("position", name, SHAPE).double()
    r1, r2 = [0.3, 1.0, 2.5], [0.2, 1.0, 1.9]
    with torch.no_grad():
        made.log_r1.copy_(torch.tensor(r1).double().log())
        made.log_r2.copy_(torch.tensor(r2).double().log())
    distance = torch.tensor([[-3, 0, 1], [2, 50, 4000]])
    bias = made.bias_of(distance)
    for h in range(3):
        a, b = made.log_r1[h].exp().item(), made.log_r2[h].exp().item()
        for i in range(2):
            for j in range(3):
                d = abs(int(distance[i, j]))
                expected = -a * math.log(1 + b * d) if name == "kerple_log" else -a * d**b
                assert bias[h, i, j].item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", ["kerple_log", "kerple_power"])
def test_gradients_are_numbers_at_distance_zero_too(name: str) -> None:
    made = part("position", name, SHAPE).double()
    made.bias_of(torch.arange(5)).sum().backward()
    for parameter in made.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert (parameter.grad != 0).all()


def test_heads_start_apart_and_alike_for_a_seed() -> None:
    import gptkit

    words = ["model/position=kerple_log", "tokenizer=byte", "model.n_layers=1"]
    first, again = (dict(gptkit.build(gptkit.compose(words)).named_parameters()) for _ in range(2))
    r1 = first["position.log_r1"]
    assert torch.equal(r1, again["position.log_r1"])
    assert len(r1.unique()) == r1.numel()
    assert ((r1.exp() >= 0.1) & (r1.exp() <= 2.0)).all()
