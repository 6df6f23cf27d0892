"""Latent attention against plain loops, absorbed and not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import gptkit
from gptkit.errors import UserError
from gptkit.model.interfaces import MaskContext, Step
from gptkit.testing.layers import AT, X, built, shape, step


def expected(made: Any) -> Tensor:
    """Head by head, token by token, from keys and values written out."""
    down = X[0] @ made.kv_down.weight.T
    c, key = down[:, : made.rank], down[:, made.rank :]
    c = c / (c.square().mean(-1, keepdim=True) + 1e-6).sqrt() * made.kv_norm.weight
    angle = torch.arange(6, dtype=torch.float64)[:, None] * 10000 ** (-torch.tensor([0.0, 2.0]).double() / 4)

    def turn(x: Tensor) -> Tensor:
        z = torch.complex(x[:, :2].contiguous(), x[:, 2:].contiguous()) * torch.polar(
            torch.ones_like(angle), angle
        )
        return torch.cat([z.real, z.imag], dim=-1)

    q = made.q(X)[0].view(6, 2, -1)
    up = made.kv_up(c).view(6, 2, -1)
    rows = []
    for h in range(2):
        scores = q[:, h, :3] @ up[:, h, :3].T + turn(q[:, h, 3:]) @ turn(key).T
        pattern = (scores / 7**0.5).masked_fill(torch.ones(6, 6).triu(1).bool(), float("-inf")).softmax(-1)
        rows.append(pattern @ up[:, h, 3:])
    return torch.cat(rows, dim=-1) @ made.out.weight.T


@pytest.mark.parametrize("q_rank", [None, 5])
def test_it_is_its_formula_and_absorbing_changes_nothing(q_rank: int | None) -> None:
    made = built(shape(), "rotary", name="latent", d_content=3, d_value=5, kv_rank=6, q_rank=q_rank)
    found = made(X, step())[0]
    assert torch.allclose(found, expected(made), atol=1e-12, rtol=0)
    cache = made.new_cache(1, 6, torch.device("cpu"), torch.float64)
    assert cache.keys.shape[1:] == (1, 6, 4)
    assert cache.values.shape[1:] == (1, 6, 6)
    for t in range(6):
        at = Step(AT[:, t : t + 1], AT[:, : t + 1], MaskContext(), cache=cache)
        assert torch.allclose(made(X[:, t : t + 1], at)[0, 0], found[t], atol=1e-12, rtol=0)


def test_what_it_keeps_is_small() -> None:
    sizes = {"n_layers": 2, "d_model": 64, "n_heads": 8, "vocab_size": 9, "context_length": 16}
    model = gptkit.build({"model": {**sizes, "attention": {"name": "latent", "kv_rank": 12}}}).eval()
    caches = model.new_caches(1, 16)
    model(torch.zeros(1, 16, dtype=torch.long), caches=caches)
    assert caches.bytes == 2 * 16 * (12 + 8) * 4


def test_heads_share_what_is_kept() -> None:
    with pytest.raises(UserError, match="n_kv_heads=1 of 2"):
        built(shape(n_kv_heads=1), name="latent")
