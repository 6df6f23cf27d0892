"""Learned sinks against plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gptkit.model.assemble import part
from gptkit.model.interfaces import MaskContext, ModelShape, Step

SHAPE = ModelShape(
    vocab_size=5, context_length=8, d_model=8, n_layers=1, n_heads=4, n_kv_heads=2, d_head=2, d_ff=8
)
X, AT = torch.randn(1, 5, 8, dtype=torch.float64), torch.arange(5)[None]


def built(name: str, **options: object):
    """The part without positions under the causal mask, with weights drawn anew, in float64."""
    position, mask = part("position", "none", SHAPE), part("mask", "causal")
    made = part("attention", {"name": name, **options}, SHAPE, position, mask).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def heads_of(made) -> tuple[list, list, list]:
    """q [4][5][2], and k and v of each query head [4][5][2], as plain numbers."""
    qkv = (X[0] @ made.qkv.weight.T + made.qkv.bias).tolist()
    cut = [[[row[2 * h], row[2 * h + 1]] for row in qkv] for h in range(8)]
    return cut[:4], [cut[4 + h // 2] for h in range(4)], [cut[6 + h // 2] for h in range(4)]


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def mapped(made, mixed: list[list[list[float]]]) -> Tensor:
    """What heads [4][5][2] give, through the map back."""
    rows = [[number for h in range(4) for number in mixed[h][t]] for t in range(5)]
    return torch.tensor(rows, dtype=torch.float64) @ made.out.weight.T + made.out.bias


def test_it_is_its_formula() -> None:
    made = built("sinks")
    q, k, v = heads_of(made)
    mixed = []
    for h in range(4):
        mixed.append([])
        for t in range(5):
            weights = [math.exp(dot(q[h][t], k[h][s]) / math.sqrt(2)) for s in range(t + 1)]
            total = sum(weights) + math.exp(made.sinks[h].item())
            mixed[h].append([sum(w * v[h][s][i] for s, w in enumerate(weights)) / total for i in range(2)])
    assert torch.allclose(made(X, Step(AT, AT, MaskContext()))[0], mapped(made, mixed), atol=1e-12, rtol=0)


def test_a_sink_far_below_changes_nothing() -> None:
    made, plain = built("sinks"), built("grouped_query")
    with torch.no_grad():
        made.sinks.fill_(-1e4)
    plain.load_state_dict({name: tensor for name, tensor in made.state_dict().items() if name != "sinks"})
    step = Step(AT, AT, MaskContext())
    assert torch.allclose(made(X, step), plain(X, step), atol=1e-12, rtol=0)
