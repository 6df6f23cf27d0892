"""Further tokens: what is minimised, what is told, and what stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import gptkit
from gptkit.errors import UserError

SIZES = {"n_layers": 1, "d_model": 16, "n_heads": 2, "vocab_size": 9, "context_length": 8}
X = torch.randint(0, 9, (3, 8), generator=torch.Generator().manual_seed(1))


def built(**options: object) -> Any:
    return gptkit.build({"model": {**SIZES, "head": {"name": "multi_token", **options}}}).double()


def test_gradients_are_those_of_all_tokens_ahead() -> None:
    model = built(ahead=3, weight=0.5).train()
    targets = X.roll(-1, 1)
    targets[:, -1] = -100
    told = model.loss(X, targets)
    told.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    x = model.hidden(X)
    next_loss = F.cross_entropy((x @ model.embedding.weight.T).flatten(0, 1), targets.flatten())
    total = next_loss
    for k in (1, 2):
        y = x[:, :-k]
        y = y + F.silu(y @ model.head.further[k - 1].weight.T)
        logits = (y @ model.embedding.weight.T).flatten(0, 1)
        total = total + 0.25 * F.cross_entropy(logits, targets[:, k:].flatten())
    total.backward()
    assert told.item() == pytest.approx(next_loss.item(), abs=1e-12)
    for name, p in model.named_parameters():
        assert torch.allclose(found[name], p.grad, atol=1e-12), name


def test_no_row_looks_into_the_next() -> None:
    model = built(ahead=4, weight=1.0).train()
    grads = []
    for rows in (X[:1], X):  # beside others, a row's own further targets are the same
        model.zero_grad()
        targets = rows.roll(-1, 1).clone()
        targets[1:] = -100
        model.loss(rows, targets, reduction="sum").backward()
        grads.append([layer.weight.grad.clone() for layer in model.head.further])
    for one, other in zip(*grads, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_in_use_it_is_a_plain_head() -> None:
    model = built().eval()
    plain = gptkit.build({"model": SIZES}).double().eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "further" not in k})
    assert torch.equal(model(X), plain(X))
    assert torch.equal(model.loss(X, X), plain.loss(X, X))
    short = built(ahead=5).train()
    assert torch.isfinite(short.loss(X[:, :2], X[:, :2]))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="ahead=1"):
        built(ahead=1)
    model = built().train()
    with pytest.raises(UserError, match="along a row"):
        model.head.loss(torch.zeros(4, 16, dtype=torch.float64), torch.zeros(4, dtype=torch.long))
