"""Where the norms stand, with sublayers that can be followed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(
    vocab_size=5, context_length=8, d_model=4, n_layers=1, n_heads=1, n_kv_heads=1, d_head=4, d_ff=8
)


class Times(nn.Module):
    """A sublayer or a norm that multiplies."""

    absent = False
    shape = SHAPE

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, step: object = None) -> Tensor:
        return x * self.factor


@pytest.mark.parametrize(("name", "before"), [("sandwich", True), ("post_sublayer", False)])
def test_the_norms_stand_where_they_should(name: str, before: bool) -> None:
    factors = iter([2.0, 3.0, 5.0, 7.0])
    block = part("block", name, Times(11.0), Times(13.0), lambda width: Times(next(factors)))
    x = torch.ones(1, 1, 4, dtype=torch.float64)
    if before:
        first = 1 + 3 * 11 * 2
        expected = first + 7 * 13 * 5 * first
    else:
        first = 1 + 2 * 11
        expected = first + 3 * 13 * first
    assert torch.equal(block(x, None), expected * x)
    assert block.needs_final_norm


@pytest.mark.parametrize("name", ["sandwich", "post_sublayer"])
def test_without_a_network_there_is_one_sublayer(name: str) -> None:
    absent = part("feed_forward", "none", SHAPE)
    block = part("block", name, Times(11.0), absent, lambda width: Times(2.0))
    x = torch.ones(1, 1, 4, dtype=torch.float64)
    assert torch.equal(block(x, None), (1 + (2 if name == "sandwich" else 1) * 2 * 11.0) * x)
