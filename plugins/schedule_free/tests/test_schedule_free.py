"""Schedule-free AdamW against the paper's algorithm, and what a run validates, saves and resumes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import gptkit
from gptkit import registry
from gptkit.errors import ConfigError
from gptkit.train.fit import fit
from small_runs import change, rows, same, tensors, trained  # pyright: ignore[reportMissingImports]
from tiny import tiny  # pyright: ignore[reportMissingImports]

ScheduleFree: Any = registry.load("optimizer", "schedule_free")


def decays(name: str, value: torch.Tensor) -> bool:
    return value.ndim >= 2 and "norm" not in name


def test_each_step_is_the_paper_algorithm() -> None:
    model = tiny()
    optimizer = ScheduleFree(lr=0.03, betas=[0.8, 0.9], eps=1e-6, weight_decay=0.2).build(model)
    x = {name: p.detach().flatten().tolist() for name, p in model.named_parameters()}
    z = {name: list(flat) for name, flat in x.items()}
    v = {name: [0.0] * len(flat) for name, flat in x.items()}
    generator, total = torch.Generator().manual_seed(0), 0.0
    for step in range(1, 7):
        lr = 0.03 * min(1.0, step / 3)
        for group in optimizer.param_groups:
            group["lr"] = lr
        rate = lr * math.sqrt(1 - 0.9**step)
        total += rate * rate
        for name, p in model.named_parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            decay = 0.2 if decays(name, p) else 0.0
            for i, g in enumerate(p.grad.flatten().tolist()):
                y = 0.2 * z[name][i] + 0.8 * x[name][i]
                v[name][i] = 0.9 * v[name][i] + 0.1 * g * g
                z[name][i] -= rate * g / (math.sqrt(v[name][i]) + 1e-6) + rate * decay * y
                x[name][i] += rate * rate / total * (z[name][i] - x[name][i])
        optimizer.step()
        for used in (False, True, False):
            (optimizer.eval if used else optimizer.train)()
            for name, p in model.named_parameters():
                y = [0.2 * a + 0.8 * b for a, b in zip(z[name], x[name], strict=True)]
                expected = torch.tensor(x[name] if used else y, dtype=torch.float64).view_as(p)
                assert (p.detach() - expected).abs().max() < 1e-12, (step, name, used)


def test_only_matrices_and_embeddings_decay_and_a_rate_of_zero_moves_nothing() -> None:
    model = tiny()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    frozen = model.blocks[0].feed_forward.up.weight
    frozen.requires_grad_(False)
    optimizer = ScheduleFree(lr=0.0, betas=[0.5, 0.0], weight_decay=0.5).build(model)
    for rate in (0.0, 0.1):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for p in model.parameters():
            p.grad = torch.zeros_like(p) if p.requires_grad else None
        optimizer.step()
        optimizer.eval()
        for name, p in model.named_parameters():
            shrunk = 1 - rate / 2 if decays(name, p) and p is not frozen else 1.0
            torch.testing.assert_close(p.detach(), before[name] * shrunk, rtol=1e-12, atol=0)
        optimizer.train()


def test_looking_on_changes_nothing() -> None:
    models = tiny(), tiny()
    one, two = (ScheduleFree().build(model) for model in models)
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for a, b in zip(*(model.parameters() for model in models), strict=True):
            a.grad = torch.randn(a.shape, generator=generator, dtype=torch.float64)
            b.grad = a.grad.clone()
        one.step()
        two.step()
        for _ in range(step):
            two.eval()
            two.train()
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))


def test_a_run_cut_in_two_ends_as_one_in_a_piece_and_its_average_is_what_it_is_judged_by(
    tmp_path: Path,
) -> None:
    free = {"optimizer": {"name": "schedule_free", "lr": 0.02}}
    straight = trained(tmp_path, **free)
    cut = trained(tmp_path, **free, trainer__max_steps=5, trainer__eval_every=2)
    fit(change(cut, trainer__max_steps=12))
    held = tensors(cut)
    assert same(tensors(straight), held)
    model = gptkit.load(cut.path)
    for name, weight in model.named_parameters():
        assert torch.equal(weight.detach(), held[f"optimizer/average/{name}"])
        assert not torch.equal(weight.detach(), held[f"optimizer/fast/{name}"])
    assert rows(cut)[-1]["val_loss"] == pytest.approx(rows(straight)[-1]["val_loss"], abs=0)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        ScheduleFree(lr=-1.0)
