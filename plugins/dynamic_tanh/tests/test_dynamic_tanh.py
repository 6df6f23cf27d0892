"""Dynamic tanh against its formula, number by number."""

from __future__ import annotations

import math

import pytest
import torch

import gptkit
from gptkit.errors import UserError
from gptkit.model.assemble import part
from tiny import close, normal, scatter  # pyright: ignore[reportMissingImports]


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_its_formula(bias: bool) -> None:
    norm = scatter(part("norm", {"name": "dynamic_tanh", "alpha": 0.7, "bias": bias}, 5))
    x = normal(2, 3, 5)
    a = norm.alpha.item()
    for b in range(2):
        for t in range(3):
            expected = [
                norm.weight[i].item() * math.tanh(a * x[b, t, i].item())
                + (norm.bias[i].item() if bias else 0.0)
                for i in range(5)
            ]
            close(norm(x)[b, t], torch.tensor(expected, dtype=torch.float64))


def test_every_alpha_of_a_model_starts_where_it_was_told() -> None:
    words = ["model/norm=dynamic_tanh", "model.norm.alpha=0.75", "tokenizer=byte", "model.n_layers=1"]
    named = dict(gptkit.build(gptkit.compose(words)).named_parameters())
    alphas = [p for name, p in named.items() if name.endswith(".alpha")]
    assert len(alphas) == 3
    assert all(p.tolist() == [0.75] for p in alphas)
    assert torch.equal(named["norm.weight"], torch.ones_like(named["norm.weight"]))
    assert torch.equal(named["norm.bias"], torch.zeros_like(named["norm.bias"]))


@pytest.mark.parametrize("alpha", [0.0, math.nan, math.inf])
def test_an_alpha_that_reads_nothing_is_refused(alpha: float) -> None:
    with pytest.raises(UserError, match="other than 0"):
        part("norm", {"name": "dynamic_tanh", "alpha": alpha}, 4)
