"""FIRE against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from gptkit.errors import UserError
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(
    vocab_size=5, context_length=8, d_model=6, n_layers=1, n_heads=3, n_kv_heads=3, d_head=2, d_ff=8
)


def test_it_is_its_formula() -> None:
    made = part("position", {"name": "fire", "width": 4, "scale": 0.3, "threshold": 5.0}, SHAPE).double()
    for parameter in (*made.up.parameters(), *made.down.parameters()):
        torch.nn.init.normal_(parameter)
    q, k = torch.zeros(1, 3, 4, 2).double(), torch.zeros(1, 3, 9, 2).double()
    q_at, k_at = torch.tensor([[0, 3, 7, 8]]), torch.arange(9)[None]
    bias = made.score_bias(q, k, q_at, k_at)
    c, limit = made.scale.item(), made.threshold.item()
    for a, i in enumerate(q_at[0].tolist()):
        for j in range(9):
            x = math.log(c * abs(i - j) + 1) / math.log(c * max(limit, i + 1) + 1)
            up = zip(made.up.weight.flatten().tolist(), made.up.bias.tolist(), strict=True)
            hidden = [max(0.0, w * x + b) for w, b in up]
            for h in range(3):
                row, shift = made.down.weight[h].tolist(), made.down.bias[h].item()
                expected = sum(w * v for w, v in zip(row, hidden, strict=True)) + shift
                assert bias[0, h, a, j].item() == pytest.approx(expected, abs=1e-12)


def test_what_cannot_be_is_refused() -> None:
    for options in ({"width": 0}, {"scale": 0.0}, {"threshold": -1.0}):
        with pytest.raises(UserError, match="above 0"):
            part("position", {"name": "fire", **options}, SHAPE)
