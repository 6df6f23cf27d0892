"""Forgetting attention against plain loops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import gptkit
from gptkit.testing.layers import X, built, shape, step


def test_it_is_its_formula() -> None:
    made = built(shape(n_kv_heads=1), name="forgetting")
    qkv = (X[0] @ made.qkv.weight.T + made.qkv.bias).view(6, 4, 4)
    gates = (X[0] @ made.gate.weight[0] + made.gate.bias).sigmoid().tolist()
    rows = torch.zeros(6, 8, dtype=torch.float64)
    for h in range(2):
        for t in range(6):
            scores = []
            for s in range(t + 1):
                kept = 1.0
                for between in range(s + 1, t + 1):
                    kept *= gates[between]
                scores.append(torch.exp(qkv[t, h] @ qkv[s, 2] / 2) * kept)
            total = torch.stack(scores).sum()
            rows[t, 4 * h : 4 * h + 4] = sum(w / total * qkv[s, 3] for s, w in enumerate(scores))
    assert torch.allclose(made(X, step())[0], rows @ made.out.weight.T + made.out.bias, atol=1e-12, rtol=0)


def test_open_gates_forget_nothing_and_a_closed_one_all() -> None:
    made, plain = built(shape(), name="forgetting"), built(shape(), name="multi_head")
    with torch.no_grad():
        made.gate.weight.zero_()
        made.gate.bias.fill_(60.0)
    plain.load_state_dict({k: v for k, v in made.state_dict().items() if not k.startswith("gate")})
    assert torch.allclose(made(X, step()), plain(X, step()), atol=1e-12, rtol=0)
    with torch.no_grad():
        made.gate.bias.fill_(-60.0)
    patterns: list[Tensor] = []
    made(X, step(patterns=patterns))
    assert torch.allclose(patterns[0], torch.eye(6).double().expand(1, 2, 6, 6), atol=1e-12, rtol=0)


def test_little_is_forgotten_at_first() -> None:
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "vocab_size": 9, "context_length": 8}
    attention: Any = gptkit.build({"model": {**sizes, "attention": "forgetting"}}).blocks[0].attention
    assert attention.gate.bias.tolist() == [4.0, 4.0]
    assert attention.gate.weight.std() > 0


def test_padding_between_tokens_fades_nothing() -> None:
    sizes = {"n_layers": 2, "d_model": 16, "n_heads": 2, "vocab_size": 9, "context_length": 8}
    model = gptkit.build({"model": {**sizes, "attention": "forgetting"}}).double().eval()
    text = torch.tensor([[3, 1, 4, 1, 5]])
    held = torch.tensor([[3, 1, 0, 0, 4, 1, 5]])
    padding = torch.tensor([[False, False, True, True, False, False, False]])
    found = model(held, padding=padding)[:, [0, 1, 4, 5, 6]]
    assert torch.allclose(found, model(text), atol=1e-12, rtol=0)
