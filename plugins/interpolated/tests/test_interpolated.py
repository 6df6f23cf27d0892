"""A stretched table against linear interpolation by torch, and against the table itself."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import gptkit
from gptkit.errors import PositionRangeError, UserError
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(5, 8, 6, 2, 2, 2, 3, 8)


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.0, 2.5])
def test_it_is_linear_interpolation(factor: float) -> None:
    made = part("position", {"name": "interpolated", "factor": factor, "max_positions": 4}, SHAPE).double()
    torch.nn.init.normal_(made.weight)
    assert made.max_positions == int(4 * factor)
    at = torch.arange(made.max_positions)
    found = made.embed(torch.zeros(1, len(at), 6, dtype=torch.float64), at[None])[0]
    for p in at.tolist():
        place = min(p / factor, 3.0)
        low = min(int(place), 2)
        expected = made.weight[low] * (1 - (place - low)) + made.weight[low + 1] * (place - low)
        assert torch.allclose(found[p], expected, atol=1e-12)
    if factor == 2.0:
        rows = made.weight.t().unsqueeze(0)
        torchs = F.interpolate(rows, size=7, mode="linear", align_corners=True)[0].t()
        assert torch.allclose(found[:7], torchs, atol=1e-12)


def test_the_weights_of_a_learned_model_fit() -> None:
    sizes = {"n_layers": 1, "d_model": 8, "n_heads": 2, "vocab_size": 9}
    short = gptkit.build({"model": {**sizes, "context_length": 8}}).eval()
    node = {"name": "interpolated", "factor": 2.0}
    long = gptkit.build({"model": {**sizes, "context_length": 16, "position": node}}).eval()
    long.load_state_dict(short.state_dict())
    x = torch.randint(0, 9, (1, 8), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(long(x, positions=2 * torch.arange(8)[None]), short(x), atol=1e-6)
    with pytest.raises(PositionRangeError, match="end at 15"):
        long(torch.zeros(1, 17, dtype=torch.long))


def test_a_factor_below_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"factor=0\.5"):
        part("position", {"name": "interpolated", "factor": 0.5}, SHAPE)
