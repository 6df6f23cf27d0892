"""The embedding's norm: before the position, and not in a tied head."""

from __future__ import annotations

from typing import Any

import torch

import gptkit
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(5, 8, 6, 1, 2, 2, 3, 8)


def test_tokens_are_normalised_before_positions_are_added() -> None:
    position = part("position", "sinusoidal", SHAPE)
    made = part("embedding", "normed", SHAPE, position).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    at = torch.arange(4)[None]
    found = made(torch.tensor([[3, 1, 4, 1]]), at)[0]
    for t, token in enumerate((3, 1, 4, 1)):
        e = made.weight[token]
        e = (e - e.mean()) / (e.var(unbiased=False) + 1e-5).sqrt() * made.norm.weight + made.norm.bias
        expected = position.embed(e[None, None], at[:, t : t + 1])[0, 0]
        assert torch.allclose(found[t], expected, atol=1e-12, rtol=0)


def test_a_tied_head_reads_the_bare_table() -> None:
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "vocab_size": 9, "context_length": 8}
    model: Any = gptkit.build({"model": {**sizes, "embedding": "normed"}})
    assert model.head.weight is model.embedding.weight
    assert model.embedding.norm.weight.tolist() == [1.0] * 16
