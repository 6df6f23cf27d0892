"""AdamW against its formula, and what may decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gptkit.errors import ConfigError
from gptkit.model.interfaces import roles
from gptkit.train.optimizers import AdamW, can_fuse, decay_groups
from tiny import tiny


@pytest.mark.parametrize("fused", [True, False, None])
def test_adamw_is_its_formula(fused: bool | None) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(5, 3).double()
    lr, betas, eps, decay = 0.03, (0.8, 0.9), 1e-6, 0.2
    expected = {name: p.detach().clone() for name, p in linear.named_parameters()}
    first = {name: torch.zeros_like(p) for name, p in expected.items()}
    second = {name: torch.zeros_like(p) for name, p in expected.items()}
    optimizer = AdamW(lr=lr, betas=list(betas), eps=eps, weight_decay=decay, fused=fused).build(linear)
    for step in range(1, 6):
        for name, p in linear.named_parameters():
            p.grad = torch.randn_like(p)
            first[name] = betas[0] * first[name] + (1 - betas[0]) * p.grad
            second[name] = betas[1] * second[name] + (1 - betas[1]) * p.grad**2
            m, v = first[name] / (1 - betas[0] ** step), second[name] / (1 - betas[1] ** step)
            own = decay if name == "weight" else 0.0
            expected[name] = expected[name] * (1 - lr * own) - lr * m / (v.sqrt() + eps)
        optimizer.step()
    for name, p in linear.named_parameters():
        assert (p - expected[name]).abs().max() < 1e-12


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
@pytest.mark.parametrize("tied", [True, False])
def test_only_matrices_and_embeddings_decay(position: str, tied: bool) -> None:
    model = tiny(position=position, head={"name": "language_model", "tied": tied, "bias": True})
    decayed, others = (set(map(id, group["params"])) for group in decay_groups(model, 0.1))
    kinds = roles(model)
    named = dict(model.named_parameters())
    assert decayed | others == set(map(id, named.values()))
    assert not decayed & others
    for name, p in named.items():
        is_matrix = p.ndim >= 2 and "norm" not in name
        assert (id(p) in decayed) == is_matrix, (name, kinds[name])
    assert any("norm" in name for name in named)


def test_a_norm_without_gradient_stays_while_a_matrix_shrinks() -> None:
    model = tiny()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    AdamW(lr=0.1, weight_decay=0.5).build(model).step()
    for name, p in model.named_parameters():
        shrunk = p.ndim >= 2 and "norm" not in name
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if shrunk else 1.0), rtol=1e-12, atol=0)


def test_frozen_parameters_are_left_out() -> None:
    model = tiny()
    model.embedding.weight.requires_grad_(False)
    groups = decay_groups(model, 0.1)
    assert all(p is not model.embedding.weight for group in groups for p in group["params"])


def test_one_kernel_is_taken_where_there_is_one() -> None:
    model = nn.Linear(2, 2)
    assert can_fuse(model)
    assert AdamW().build(model).defaults["fused"] is True
    assert AdamW(fused=False).build(model).defaults["fused"] is False


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        AdamW(lr=-1.0, betas=[0.9], weight_decay=-0.1)
    assert [p.key for p in caught.value.problems] == [
        "optimizer.lr",
        "optimizer.betas",
        "optimizer.weight_decay",
    ]
