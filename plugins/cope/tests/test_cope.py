"""Contextual positions against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

import gptkit
from gptkit.errors import UserError
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(5, 8, 8, 2, 4, 2, 2, 8)


def test_it_is_its_formula() -> None:
    made = part("position", {"name": "cope", "max_count": 3}, SHAPE).double()
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(2, 4, 3, 2, dtype=torch.float64, generator=generator) * 2
    k = torch.randn(2, 2, 7, 2, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        made.weight.copy_(torch.randn(4, 2, dtype=torch.float64, generator=generator))
    at = torch.arange(7)[None]
    found = made.score_bias(q, k, at[:, 4:], at)
    farthest = 0.0
    for b in range(2):
        for h in range(4):
            for t in range(3):
                for j in range(4 + t + 1):
                    gates = [
                        1 / (1 + math.exp(-(q[b, h, t] @ k[b, h // 2, s]).item() / math.sqrt(2)))
                        for s in range(j, 4 + t + 1)
                    ]
                    farthest = max(farthest, sum(gates))
                    p = min(sum(gates), 3.0)
                    low = min(int(p), 2)
                    vector = made.weight[low] * (1 - (p - low)) + made.weight[low + 1] * (p - low)
                    assert found[b, h, t, j].item() == pytest.approx((q[b, h, t] @ vector).item(), abs=1e-12)
    assert farthest > 3  # the end of the table was reached


def test_it_counts_alike_in_a_longer_text() -> None:
    """Tokens before change no count: a window may slide."""
    sizes = {"n_layers": 2, "d_model": 16, "n_heads": 2, "vocab_size": 9, "context_length": 8}
    node = {"position": "cope", "mask": {"causal": {}, "sliding_window": {"window": 3}}}
    model = gptkit.build({"model": {**sizes, **node}}).eval().double()
    x = torch.randint(0, 9, (1, 12), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.allclose(model(x)[:, -1], model(x[:, 4:])[:, -1], atol=1e-12)


def test_a_table_of_one_is_refused() -> None:
    with pytest.raises(UserError, match="max_count=0"):
        part("position", {"name": "cope", "max_count": 0}, SHAPE)
