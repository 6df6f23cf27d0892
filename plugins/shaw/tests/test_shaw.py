"""Shaw's vectors against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from gptkit.errors import UserError
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(
    vocab_size=5, context_length=8, d_model=8, n_layers=1, n_heads=2, n_kv_heads=2, d_head=4, d_ff=8
)


def test_it_is_its_formula() -> None:
    made = part("position", {"name": "shaw", "max_distance": 2}, SHAPE).double()
    torch.nn.init.normal_(made.weight)
    q, k = torch.randn(2, 2, 3, 4).double(), torch.zeros(2, 2, 7, 4).double()
    q_at = torch.tensor([[4, 5, 6], [0, 3, 6]])
    bias = made.score_bias(q, k, q_at, torch.arange(7)[None].expand(2, -1))
    for b in range(2):
        for h in range(2):
            for t in range(3):
                for j in range(7):
                    away = max(-2, min(2, j - int(q_at[b, t])))
                    expected = float(q[b, h, t] @ made.weight[away + 2].detach()) / math.sqrt(4)
                    assert bias[b, h, t, j].item() == pytest.approx(expected, abs=1e-12)


def test_no_distance_is_refused() -> None:
    with pytest.raises(UserError, match="1 or more"):
        part("position", {"name": "shaw", "max_distance": 0}, SHAPE)
