"""Lion against a loop over numbers, and a run that was cut in two."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gptkit import registry
from gptkit.errors import ConfigError
from gptkit.train.fit import fit
from small_runs import change, same, tensors, trained  # pyright: ignore[reportMissingImports]
from tiny import tiny  # pyright: ignore[reportMissingImports]

Lion: Any = registry.load("optimizer", "lion")


def decays(name: str, value: torch.Tensor) -> bool:
    return value.ndim >= 2 and "norm" not in name


def test_each_step_is_the_formula() -> None:
    model = tiny()
    optimizer = Lion(lr=0.03, betas=[0.8, 0.95], weight_decay=0.4).build(model)
    weights = {name: p.detach().flatten().tolist() for name, p in model.named_parameters()}
    average = {name: [0.0] * len(flat) for name, flat in weights.items()}
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        for name, p in model.named_parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            decay = 0.4 if decays(name, p) else 0.0
            for i, g in enumerate(p.grad.flatten().tolist()):
                blend = 0.8 * average[name][i] + 0.2 * g
                weights[name][i] += -0.03 * (math.copysign(1.0, blend) + decay * weights[name][i])
                average[name][i] = 0.95 * average[name][i] + 0.05 * g
        optimizer.step()
        for name, p in model.named_parameters():
            expected = torch.tensor(weights[name], dtype=torch.float64).view_as(p)
            assert (p - expected).abs().max() < 1e-12, name


def test_only_matrices_and_embeddings_decay_and_no_gradient_moves_nothing_else() -> None:
    model = tiny()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    frozen = model.blocks[0].feed_forward.up.weight
    frozen.requires_grad_(False)
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    Lion(lr=0.1, weight_decay=0.5).build(model).step()
    for name, p in model.named_parameters():
        shrunk = 0.95 if decays(name, p) and p is not frozen else 1.0
        torch.testing.assert_close(p.detach(), before[name] * shrunk, rtol=1e-12, atol=0)


def test_a_run_cut_in_two_ends_as_one_in_a_piece(tmp_path: Path) -> None:
    lion = {"optimizer": {"name": "lion", "lr": 0.001}}
    straight = trained(tmp_path, **lion)
    cut = trained(tmp_path, **lion, trainer__max_steps=5)
    fit(change(cut, trainer__max_steps=12))
    assert same(tensors(straight), tensors(cut))
    assert "optimizer/average/norm.weight" in tensors(cut)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Lion(lr=-1.0, betas=[0.9, 1.0], weight_decay=-0.1)
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["optimizer.lr", "optimizer.betas", "optimizer.weight_decay"]
