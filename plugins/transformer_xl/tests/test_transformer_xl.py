"""Transformer-XL's scores against plain loops."""

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
    made = part("position", {"name": "transformer_xl", "base": 50.0}, SHAPE).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    q, k = torch.randn(1, 2, 3, 4).double(), torch.randn(1, 2, 6, 4).double()
    q_at = [3, 4, 5]
    bias = made.score_bias(q, k, torch.tensor([q_at]), torch.arange(6)[None])
    weight = made.maps.weight.detach().view(2, 4, 8)
    for h in range(2):
        for a, i in enumerate(q_at):
            for j in range(6):
                speeds = [50.0 ** (-n / 4) for n in range(4)]
                waves = [math.sin((i - j) * s) for s in speeds] + [math.cos((i - j) * s) for s in speeds]
                turned = weight[h] @ torch.tensor(waves, dtype=torch.float64)
                total = made.u[h].detach() @ k[0, h, j] + (q[0, h, a] + made.v[h].detach()) @ turned
                assert bias[0, h, a, j].item() == pytest.approx(float(total) / 2, abs=1e-12)


def test_shared_keys_are_refused() -> None:
    shape = ModelShape(
        vocab_size=5, context_length=8, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_head=4, d_ff=8
    )
    with pytest.raises(UserError, match="n_kv_heads=null"):
        part("position", "transformer_xl", shape)
