"""Normalised queries and keys against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from gptkit.model.assemble import part
from gptkit.model.interfaces import MaskContext, ModelShape, Step

SHAPE = ModelShape(
    vocab_size=5, context_length=8, d_model=8, n_layers=1, n_heads=4, n_kv_heads=2, d_head=2, d_ff=8
)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("per_head", [True, False])
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_it_is_its_formula(per_head: bool, offset: float, kernel: str) -> None:
    position, mask = part("position", "none", SHAPE), part("mask", "causal")
    node = {"name": "qk_norm", "per_head": per_head, "offset": offset, "eps": 1e-3, "kernel": kernel}
    attention = part("attention", node, SHAPE, position, mask).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    x, at = torch.randn(1, 5, 8, dtype=torch.float64), torch.arange(5)[None]
    found = attention(x, Step(at, at, MaskContext()))
    qkv = (x[0] @ attention.qkv.weight.T + attention.qkv.bias).tolist()
    heads = [[row[2 * h : 2 * h + 2] for h in range(8)] for row in qkv]  # 4 of q, 2 of k, 2 of v
    q = [rms(row[:4], attention.q_norm.weight.tolist(), per_head, offset) for row in heads]
    k = [rms(row[4:6], attention.k_norm.weight.tolist(), per_head, offset) for row in heads]
    for t in range(5):
        mixed = []
        for h in range(4):
            scores = [
                sum(a * b for a, b in zip(q[t][h], k[s][h // 2], strict=True)) / math.sqrt(2)
                for s in range(t + 1)
            ]
            weights = [math.exp(score) for score in scores]
            total = sum(weights)
            mixed += [
                sum(w * heads[s][6 + h // 2][i] for s, w in enumerate(weights)) / total for i in range(2)
            ]
        expected = torch.tensor(mixed, dtype=torch.float64) @ attention.out.weight.T + attention.out.bias
        assert torch.allclose(found[0, t], expected, atol=1e-12, rtol=0)


def rms(rows: list[list[float]], gain: list[float], per_head: bool, offset: float) -> list[list[float]]:
    """The heads of one token, normalised."""
    together = math.sqrt(sum(v * v for row in rows for v in row) / (2 * len(rows)) + 1e-3)
    found = []
    for h, row in enumerate(rows):
        root = math.sqrt(sum(v * v for v in row) / 2 + 1e-3) if per_head else together
        gains = gain if per_head else gain[2 * h : 2 * h + 2]
        found.append([v / root * (offset + g) for v, g in zip(row, gains, strict=True)])
    return found
