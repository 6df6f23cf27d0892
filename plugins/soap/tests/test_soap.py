"""SOAP against the paper's algorithm in NumPy, AdamW where no axis turns, and a run that was cut in two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gptkit import registry
from gptkit.errors import ConfigError
from gptkit.train import state
from gptkit.train.fit import fit
from gptkit.train.optimizers import AdamW
from small_runs import change, same, tensors, trained  # pyright: ignore[reportMissingImports]
from tiny import some_tokens, tiny  # pyright: ignore[reportMissingImports]

Soap: Any = registry.load("optimizer", "soap")


def gram_schmidt(columns: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span what the first 1, 2, 3 ... columns span; twice, for all digits."""
    for _ in range(2):
        found: list[np.ndarray] = []
        for column in columns.T:
            for other in found:
                column = column - other * (other @ column)
            found.append(column / np.sqrt(column @ column))
        columns = np.stack(found, axis=1)
    return columns


class Loop:
    """Algorithm 3 for one matrix, on NumPy; the sign of an axis changes nothing."""

    def __init__(self, weight: np.ndarray, sides: str = "LR") -> None:
        self.w, self.sides, self.t = weight.copy(), sides, 0
        self.m, self.v = np.zeros_like(weight), np.zeros_like(weight)
        self.average: dict[str, np.ndarray] = {}
        self.q = {"L": np.eye(weight.shape[0]), "R": np.eye(weight.shape[1])}

    def step(
        self, g: np.ndarray, lr: float, b1: float, b2: float, eps: float, decay: float, every: int
    ) -> None:
        outer = {"L": g @ g.T, "R": g.T @ g}
        if not self.average:
            self.average = {side: (1 - b2) * outer[side] for side in "LR"}
            for side in self.sides:
                left, _, _ = np.linalg.svd(g if side == "L" else g.T)
                self.q[side] = left  # the strongest first
            return
        self.t += 1
        left, right = self.q["L"], self.q["R"]
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * (left.T @ g @ right) ** 2
        direction = left.T @ self.m @ right / (1 - b1**self.t) / (np.sqrt(self.v / (1 - b2**self.t)) + eps)
        self.w = self.w - lr * decay * self.w - lr * (left @ direction @ right.T)
        for side in self.sides:
            self.average[side] = b2 * self.average[side] + (1 - b2) * outer[side]
            if self.t % every == 0:
                q = self.q[side]
                strength = np.array([q[:, i] @ self.average[side] @ q[:, i] for i in range(q.shape[1])])
                order = np.argsort(-strength)
                self.q[side] = gram_schmidt(self.average[side] @ q[:, order])
                self.v = self.v[order] if side == "L" else self.v[:, order]


@pytest.mark.parametrize(
    ("size", "max_size", "sides"), [((4, 3), 9, "LR"), ((3, 3), 9, "LR"), ((5, 3), 4, "R")]
)
def test_each_step_is_the_paper_algorithm(size: tuple[int, int], max_size: int, sides: str) -> None:
    torch.manual_seed(3)
    linear = nn.Linear(size[1], size[0]).double()
    options: dict[str, Any] = {"lr": 0.03, "eps": 1e-6, "weight_decay": 0.2, "every": 3}
    optimizer = Soap(**options, betas=[0.8, 0.9], max_size=max_size).build(linear)
    loop = Loop(linear.weight.detach().numpy(), sides)
    bias, m, v = linear.bias.detach().clone(), torch.zeros(size[0]), torch.zeros(size[0])
    for step in range(1, 13):
        linear.weight.grad = torch.randn(*size, dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.1]).double()
        linear.bias.grad = torch.randn(size[0], dtype=torch.float64)
        loop.step(linear.weight.grad.numpy(), 0.03, 0.8, 0.9, 1e-6, 0.2, 3)
        m, v = 0.8 * m + 0.2 * linear.bias.grad, 0.9 * v + 0.1 * linear.bias.grad**2
        bias = bias - 0.03 * m / (1 - 0.8**step) / ((v / (1 - 0.9**step)).sqrt() + 1e-6)
        optimizer.step()
        assert np.abs(linear.weight.detach().numpy() - loop.w).max() < 1e-12, step
        assert (linear.bias.detach() - bias).abs().max() < 1e-12


def test_without_turned_axes_it_is_adamw() -> None:
    one, two = tiny(), tiny()
    options: dict[str, Any] = {"lr": 0.03, "betas": [0.8, 0.9], "eps": 1e-6, "weight_decay": 0.2}
    ours, theirs = Soap(**options, max_size=0).build(one), AdamW(**options).build(two)
    tokens = some_tokens()
    for _ in range(4):
        for model, optimizer in ((one, ours), (two, theirs)):
            optimizer.zero_grad()
            model.loss(tokens, tokens).backward()
            optimizer.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert (a - b).abs().max() < 1e-12


def test_axes_become_those_of_the_gradient_and_stay_orthonormal() -> None:
    torch.manual_seed(0)
    matrix = nn.Linear(3, 4, bias=False).double()
    axes = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    optimizer = Soap(betas=[0.9, 0.99], every=1).build(matrix)
    for step in range(500):
        strength = torch.tensor([8.0, 4.0, 2.0, 1.0] if step < 100 else [1.0, 2.0, 4.0, 8.0]).double()
        matrix.weight.grad = axes @ (strength[:, None] * torch.randn(4, 3, dtype=torch.float64))
        optimizer.step()
    found = optimizer.state[matrix.weight]["rows_axes"]
    torch.testing.assert_close(found.T @ found, torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)
    agreement = (found.T @ axes).abs().flip(-1)  # the strongest is the last of `axes` by now
    assert bool((agreement.diagonal() > 0.95).all()), agreement


def test_only_matrices_and_embeddings_decay() -> None:
    model = tiny()
    frozen = model.blocks[0].feed_forward.up.weight
    frozen.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimizer = Soap(lr=0.1, weight_decay=0.5).build(model)
    optimizer.step()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())  # lays out the axes
    optimizer.step()
    for name, p in model.named_parameters():
        shrunk = 0.95 if p.ndim >= 2 and "norm" not in name and p is not frozen else 1.0
        torch.testing.assert_close(p.detach(), before[name] * shrunk, rtol=1e-12, atol=0)


def test_what_is_kept_and_put_back_goes_on_bit_for_bit() -> None:
    straight, cut, again = tiny(), tiny(), tiny(seed=2)
    one, two, three = (Soap(every=2).build(model) for model in (straight, cut, again))
    tokens = some_tokens()

    def update(model: Any, optimizer: Any) -> None:
        optimizer.zero_grad()
        model.loss(tokens, tokens).backward()
        optimizer.step()

    for _ in range(4):
        update(straight, one)
        update(cut, two)
    kept = state.gather(cut, two, keep=True), state.numbers(cut, two)
    assert kept[1]["step/norm.weight"] == 4
    assert kept[1]["step/embedding.weight"] == 3
    state.restore(again, three, *kept)
    for _ in range(3):
        update(straight, one)
        update(again, three)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), again.parameters(), strict=True))


def test_a_run_cut_in_two_ends_as_one_in_a_piece(tmp_path: Path) -> None:
    soap = {"optimizer": {"name": "soap", "lr": 0.003, "every": 2}}
    straight = trained(tmp_path, **soap)
    cut = trained(tmp_path, **soap, trainer__max_steps=5)
    fit(change(cut, trainer__max_steps=12))
    assert same(tensors(straight), tensors(cut))


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Soap(every=0, max_size=-1)
    assert [problem.key for problem in caught.value.problems] == ["optimizer.every", "optimizer.max_size"]
    with pytest.raises(ConfigError, match=r"optimizer\.betas"):
        Soap(betas=[1.0, 0.5])
