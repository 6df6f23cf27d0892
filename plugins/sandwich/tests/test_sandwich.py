"""Sandwich against the product of two sinusoidal encodings."""

from __future__ import annotations

import pytest
import torch

from gptkit.errors import UserError
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(5, 8, 8, 2, 4, 4, 2, 8)


def test_it_is_the_product_of_two_sinusoidal_encodings() -> None:
    table = part("position", "sinusoidal", SHAPE).table(torch.arange(40), 128)  # [40, 128]
    at = torch.arange(40)
    found = part("position", "sandwich", SHAPE).bias_of(at[:, None] - at)
    for h in range(4):
        assert torch.allclose(found[h], (table @ table.T) / (2.0 * (h + 1)), atol=1e-11, rtol=0)


def test_it_falls_with_distance_and_is_largest_at_home() -> None:
    bias = part("position", "sandwich", SHAPE).bias_of(torch.tensor([0, 1, 8, 64, 512]))
    assert (bias[:, :-1] > bias[:, 1:]).all()
    assert bias[0, 0].item() == pytest.approx(32.0)


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(UserError, match="width=3"):
        part("position", {"name": "sandwich", "width": 3}, SHAPE)
