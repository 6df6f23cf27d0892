"""Soft caps against plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gptkit.errors import UserError
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


def test_scores_are_bent() -> None:
    made = built("soft_capped", cap=1.5)
    q, k, v = heads_of(made)
    mixed = []
    for h in range(4):
        mixed.append([])
        for t in range(5):
            scores = [1.5 * math.tanh(dot(q[h][t], k[h][s]) / math.sqrt(2) / 1.5) for s in range(t + 1)]
            weights = [math.exp(score) for score in scores]
            mixed[h].append(
                [sum(w * v[h][s][i] for s, w in enumerate(weights)) / sum(weights) for i in range(2)]
            )
    assert torch.allclose(made(X, Step(AT, AT, MaskContext()))[0], mapped(made, mixed), atol=1e-12, rtol=0)


def test_a_cap_far_above_changes_nothing() -> None:
    made, plain = built("soft_capped", cap=1e9), built("grouped_query")
    plain.load_state_dict(made.state_dict())
    step = Step(AT, AT, MaskContext())
    assert torch.allclose(made(X, step), plain(X, step), atol=1e-12, rtol=0)


@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_bent_and_the_loss_is_theirs(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import gptkit_soft_cap.head as home

    embedding = part("embedding", "token", SHAPE, part("position", "none", SHAPE)).double()
    torch.nn.init.normal_(embedding.weight)
    head = part("head", {"name": "soft_capped", "cap": 2.0, "bias": bias}, SHAPE, embedding).double()
    x, targets = (
        torch.randn(7, 8, dtype=torch.float64, requires_grad=True),
        torch.tensor([0, 4, -100, 1, 2, 3, 4]),
    )
    logits = head(x)
    plain = x @ embedding.weight.T + (head.bias if bias else 0)
    assert torch.allclose(logits, 2 * torch.tanh(plain / 2), atol=1e-12, rtol=0)
    whole = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100)
    (expected,) = torch.autograd.grad(whole, x)
    monkeypatch.setattr(home, "_CHUNK", 10)  # two rows at a time
    in_parts = head.loss(x, targets)
    (found,) = torch.autograd.grad(in_parts, x)
    assert torch.allclose(in_parts, whole, atol=1e-12, rtol=0)
    assert torch.allclose(found, expected, atol=1e-12, rtol=0)


def test_a_cap_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="above 0"):
        built("soft_capped", cap=0.0)
    with pytest.raises(UserError, match="above 0"):
        part("head", {"name": "soft_capped", "cap": -1.0}, SHAPE, None)
