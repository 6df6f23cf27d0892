"""Values that hear the token or the first layer, against plain attention on mixed values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import gptkit
from gptkit.errors import UserError
from gptkit.testing.layers import X, built, shape, step

SIZES = {"n_layers": 3, "d_model": 16, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 9, "context_length": 8}


def mixed_by_hand(made: Any, v: Tensor) -> Tensor:
    """Causal attention of a layer on X, with these values [6, 2, 4], head by head."""
    qkv = (X[0] @ made.qkv.weight.T + made.qkv.bias).view(6, 3, 2, 4)
    rows = []
    for h in range(2):
        scores = qkv[:, 0, h] @ qkv[:, 1, h].T / 2
        pattern = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), float("-inf")).softmax(-1)
        rows.append(pattern @ v[:, h])
    return torch.cat(rows, dim=-1) @ made.out.weight.T + made.out.bias


def test_the_token_itself_is_heard() -> None:
    made, tokens = built(shape(), name="value_embedding"), torch.tensor([[3, 1, 4, 1, 0, 2]])
    v = (X[0] @ made.qkv.weight.T + made.qkv.bias).view(6, 3, 2, 4)[:, 2]
    own = torch.stack([made.table.weight[t].view(2, 4) for t in tokens[0].tolist()])
    expected = mixed_by_hand(made, v + made.share.weight[0] * own)
    assert torch.allclose(made(X, step(tokens=tokens))[0], expected, atol=1e-12, rtol=0)
    with pytest.raises(UserError, match="reads the tokens themselves"):
        made(X, step())


def test_the_first_layers_values_are_heard() -> None:
    first, second = (built(shape(layer=i), name="value_residual") for i in (0, 1))
    with torch.no_grad():
        second.qkv.weight.mul_(0.7)
    both = step()
    v0, v1 = ((X[0] @ m.qkv.weight.T + m.qkv.bias).view(6, 3, 2, 4)[:, 2] for m in (first, second))
    assert torch.allclose(first(X, both)[0], mixed_by_hand(first, v0), atol=1e-12, rtol=0)
    a, b = second.share.weight
    assert torch.allclose(second(X, both)[0], mixed_by_hand(second, a * v1 + b * v0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["value_embedding", "value_residual"])
def test_shares_start_as_told(name: str) -> None:
    model: Any = gptkit.build({"model": {**SIZES, "attention": {"name": name, "start": 0.3}}})
    shares = [block.attention.share for block in model.blocks if block.attention.share is not None]
    expected = [0.3] if name == "value_embedding" else [0.7, 0.3]
    assert len(shares) == (3 if name == "value_embedding" else 2)
    assert all(share.weight.tolist() == pytest.approx(expected) for share in shares)
