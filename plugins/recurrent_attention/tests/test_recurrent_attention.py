"""Recurrent attention against plain loops; its state; what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import gptkit
from gptkit.errors import UserError
from gptkit.model.interfaces import MaskContext, Step
from gptkit.testing.layers import X, built, shape, step


def heads_of(made: Any) -> list[Tensor]:
    qkv = X[0] @ made.qkv.weight.T
    if made.qkv.bias is not None:
        qkv = qkv + made.qkv.bias
    return list(qkv.view(6, 3, 2, 4).permute(1, 2, 0, 3))  # q, k, v: [H, T, Dh]


def turned(x: Tensor) -> Tensor:
    """Rotary by hand, [T, 4]."""
    angle = torch.arange(6).double()[:, None] * 10000 ** (-torch.tensor([0.0, 2.0]).double() / 4)
    a, b = x[:, :2], x[:, 2:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1)


@pytest.mark.parametrize("position", ["none", "rotary"])
def test_linear_attention_is_its_formula(position: str) -> None:
    made = built(shape(), position, name="linear")
    q, k, v = heads_of(made)
    rows = torch.zeros(6, 8, dtype=torch.float64)
    for h in range(2):
        fq, fk = (torch.where(t > 0, t + 1, t.exp()) for t in (q[h], k[h]))
        tq, tk = (turned(fq), turned(fk)) if position == "rotary" else (fq, fk)
        for t in range(6):
            above = sum((tq[t] @ tk[s]) * v[h, s] for s in range(t + 1))
            below = sum(fq[t] @ fk[s] for s in range(t + 1))
            rows[t, 4 * h : 4 * h + 4] = above / below
    expected = rows @ made.out.weight.T + made.out.bias
    assert torch.allclose(made(X, step())[0], expected, atol=1e-12, rtol=1e-12)


def test_retention_is_its_formula() -> None:
    made = built(shape(), "rotary", name="retention")
    q, k, v = heads_of(made)
    rows = torch.zeros(6, 8, dtype=torch.float64)
    for h, r in enumerate((5, 9)):
        tq, tk = turned(q[h]), turned(k[h])
        for t in range(6):
            terms = [(1 - 2.0**-r) ** (t - s) * (tq[t] @ tk[s]) / 2 * v[h, s] for s in range(t + 1)]
            y = torch.stack(terms).sum(0)
            y = (y - y.mean()) / (y.var(unbiased=False) + 1e-5).sqrt()
            rows[t, 4 * h : 4 * h + 4] = y * made.norm.weight + made.norm.bias
    gate = X[0] @ made.gate.weight.T
    expected = (gate / (1 + (-gate).exp()) * rows) @ made.out.weight.T
    assert torch.allclose(made(X, step())[0], expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", ["linear", "retention"])
def test_chunks_and_the_state_change_nothing(name: str) -> None:
    """150 tokens in three chunks, against their weights written out, and against one token at a time."""
    sizes = shape(context_length=150)
    made = built(sizes, "rotary", name=name)
    x = torch.randn(2, 150, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    at = torch.arange(150)[None]
    patterns: list[Tensor] = []
    whole = made(x, Step(at, at, MaskContext(), patterns=patterns))
    _, _, v = made.given(x, Step(at, at, MaskContext()))
    y = patterns[0] @ v
    if name == "retention":
        y = torch.nn.functional.silu(made.gate(x)) * made.norm(y).transpose(1, 2).flatten(2)
    else:
        y = y.transpose(1, 2).flatten(2)
    assert torch.allclose(whole, made.out(y), atol=1e-11, rtol=0)
    cache = made.new_cache(2, 150, torch.device("cpu"), torch.float64)
    room = cache.bytes
    for first, last in ((0, 70), (70, 71), (71, 72), (72, 150)):
        part_at = at[:, first:last]
        found = made(x[:, first:last], Step(part_at, at[:, :last], MaskContext(), cache=cache))
        assert torch.allclose(found, whole[:, first:last], atol=1e-11, rtol=0)
    assert cache.bytes == room == 2 * 2 * (4 * 4 + 4 * (name == "linear")) * 8


def test_a_state_goes_back_to_nothing_or_not_at_all() -> None:
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "vocab_size": 9, "context_length": 8}
    model = gptkit.build({"model": {**sizes, "attention": "linear", "position": "none"}}).eval()
    x = torch.randint(0, 9, (1, 8), generator=torch.Generator().manual_seed(3))
    caches = model.new_caches(1, 8)
    first = model(x[:, :5], caches=caches)
    with pytest.raises(UserError, match="cannot go back to 3"):
        caches.truncate(3)
    caches.truncate(0)
    assert torch.equal(model(x[:, :5], caches=caches), first)
    with pytest.raises(UserError, match="cannot show"):
        model(x[:, 5:], caches=caches, patterns=[])


@pytest.mark.parametrize("name", ["linear", "retention"])
def test_it_goes_on_past_the_context_as_if_it_read_all(name: str) -> None:
    """A softmax layer beside it slides; what it has read itself it keeps."""
    from gptkit.generate.reader import Reader

    sizes = {"n_layers": 2, "d_model": 16, "n_heads": 2, "vocab_size": 9, "context_length": 8}
    node = {**sizes, "position": "rotary", "attention": name, "layers": {"1": {"attention": "multi_head"}}}
    model = gptkit.build({"model": node}).eval().double()
    text = torch.randint(0, 9, (24,), generator=torch.Generator().manual_seed(3)).tolist()
    found = []
    for use_cache in (True, False):
        reader = Reader(model, [text[:5]], 20, use_cache)
        with torch.no_grad():
            found.append([reader.scores()])
            for token in text[5:]:
                reader.add(torch.tensor([token]))
                found[-1].append(reader.scores())
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({"mask": {"causal": {}, "sliding_window": {}}}, "causal mask alone"),
        ({"position": "alibi"}, "could add a bias"),
        ({"attention": {"name": "retention", "fastest": 0.0}}, "fastest=0.0"),
    ],
)
def test_what_it_cannot_do_is_refused(node: dict[str, Any], told: str) -> None:
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "vocab_size": 9, "context_length": 8}
    with pytest.raises(UserError, match=told):
        gptkit.build({"model": {**sizes, "attention": "retention", "position": "none", **node}})
