"""Factorised embeddings against sums, tied and not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import gptkit
from gptkit.errors import UserError
from gptkit.load import load, save
from gptkit.model.assemble import part
from tiny import close, scatter, shape, some_tokens, tiny  # pyright: ignore[reportMissingImports]

NARROW = {"name": "factorised", "width": 3}


def test_a_vector_is_the_sum_over_the_narrow_table() -> None:
    of = shape(d_model=6, n_heads=1)
    position = part("position", "sinusoidal", of)
    embedding = scatter(part("embedding", NARROW, of, position))
    a, b = embedding.table.tolist(), embedding.widen.weight.tolist()
    tokens, at = torch.tensor([[3, 0]]), torch.tensor([[4, 5]])
    plain = [[[sum(a[t][e] * b[d][e] for e in range(3)) for d in range(6)] for t in (3, 0)]]
    close(embedding(tokens, at), position.embed(torch.tensor(plain, dtype=torch.float64), at))


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_reads_the_product_and_both_factors_learn(tied: bool) -> None:
    model = tiny(embedding=NARROW, head={"name": "language_model", "tied": tied})
    tokens = some_tokens()
    x = model.hidden(tokens)
    a, b = model.embedding.table, model.embedding.widen.weight
    weight = a @ b.T if tied else model.head.table
    close(model(tokens), torch.einsum("btd,vd->btv", x, weight))
    loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    scores = model(tokens[:, :-1]).log_softmax(-1)
    close(loss, -scores.gather(-1, tokens[:, 1:, None]).mean())
    loss.backward()
    assert a.grad is not None
    assert b.grad is not None
    unused = sorted(set(range(model.shape.vocab_size)) - set(tokens.flatten().tolist()))
    assert bool((a.grad[unused] != 0).any()) == tied  # through the head alone
    h, i, j = 1e-6, tokens[0, 0], 1  # a difference stands for the derivative of both ways at once
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            a[i, j] += sign * h
            ends.append(model.loss(tokens[:, :-1], tokens[:, 1:]).item())
            a[i, j] -= sign * h
    assert a.grad[i, j].item() == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-8)


def test_it_is_saved_and_counted_as_two_small_maps(tmp_path: Path) -> None:
    words = ["model/embedding=factorised", "model.embedding.width=4", "tokenizer=byte", "model.n_layers=1"]
    config = gptkit.compose([*words, "model.d_model=16", "model.n_heads=2", "model.context_length=8"])
    model = gptkit.build(config)
    inside = [p.numel() for p in model.embedding.parameters()]
    assert sorted(inside) == sorted([4 * model.shape.vocab_size, 4 * 16])
    assert not [name for name, _ in model.head.named_parameters()]
    tokens = some_tokens(vocab_size=100)[:, :8]
    save(model, tmp_path / "model")
    assert torch.equal(load(tmp_path / "model").eval()(tokens), model.eval()(tokens))


def test_no_width_is_refused() -> None:
    of = shape()
    with pytest.raises(UserError, match="at least 1"):
        part("embedding", {"name": "factorised", "width": 0}, of, part("position", "none", of))
