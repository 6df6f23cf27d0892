"""Differential attention against plain loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import gptkit
from gptkit.errors import UserError
from gptkit.testing.layers import X, built, shape, step


@pytest.mark.parametrize("layer", [0, 3])
def test_it_is_its_formula(layer: int) -> None:
    sizes = shape(n_heads=4, n_kv_heads=2, d_head=2, layer=layer)
    made = built(sizes, name="differential", bias=True)
    qkv = (X[0] @ made.qkv.weight.T + made.qkv.bias).view(6, 8, 2)
    q, k, v = qkv[:, :4], qkv[:, 4:6], qkv[:, 6:]
    start = 0.8 - 0.6 * 2.718281828459045 ** (-0.3 * layer)
    a1, b1, a2, b2 = made.vectors.view(4, 2)
    weight = (a1 @ b1).exp() - (a2 @ b2).exp() + start
    later = torch.ones(6, 6).triu(1).bool()
    halves: list[list[Tensor]] = [[], []]
    for h in range(2):
        patterns = [
            ((q[:, head] @ k[:, head // 2].T) / 2**0.5).masked_fill(later, float("-inf")).softmax(-1)
            for head in (h, h + 2)
        ]
        y = (patterns[0] - weight * patterns[1]) @ torch.cat([v[:, 0], v[:, 1]], dim=-1)
        y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * made.norm.weight * (1 - start)
        halves[0].append(y[:, :2])
        halves[1].append(y[:, 2:])
    expected = torch.cat(halves[0] + halves[1], dim=-1) @ made.out.weight.T + made.out.bias
    assert torch.allclose(made(X, step())[0], expected, atol=1e-12, rtol=0)


def test_each_layer_starts_at_its_own_lambda() -> None:
    sizes = {"n_layers": 3, "d_model": 16, "n_heads": 2, "vocab_size": 9, "context_length": 8}
    model = gptkit.build({"model": {**sizes, "attention": "differential"}})
    attentions: list[Any] = [block.attention for block in model.blocks]
    starts = [attention.start for attention in attentions]
    assert starts[0] == pytest.approx(0.2)
    assert starts[0] < starts[1] < starts[2] < 0.8
    for attention in attentions:
        assert abs(float(attention.weight().detach()) - attention.start) < 0.2
        assert float(attention.vectors.detach().abs().max()) > 0


def test_odd_heads_are_refused() -> None:
    with pytest.raises(UserError, match="n_heads=3"):
        built(shape(n_heads=3, n_kv_heads=3), name="differential")
