"""Muon against a loop with singular values, torch's own, and a run that was cut in two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gptkit import registry
from gptkit.errors import ConfigError
from gptkit.train import state
from gptkit.train.fit import fit
from small_runs import change, same, tensors, trained  # pyright: ignore[reportMissingImports]
from tiny import some_tokens, tiny  # pyright: ignore[reportMissingImports]

Muon: Any = registry.load("optimizer", "muon")
RATES: dict[str, Any] = {"lr": 0.03, "adamw_lr": 0.02, "weight_decay": 0.2, "momentum": 0.9, "eps": 1e-6}
HIDDEN = (
    "attention.qkv.weight",
    "attention.out.weight",
    "feed_forward.up.weight",
    "feed_forward.down.weight",
)


def is_hidden(name: str) -> bool:
    return name.endswith(HIDDEN)


def decays(name: str, value: Any) -> bool:
    return value.ndim >= 2 and "norm" not in name


def by_singular_values(matrix: np.ndarray, iterations: int) -> np.ndarray:
    """The polynomial on each singular value: no matrix is multiplied by itself."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / max(float(np.sqrt((values**2).sum())), 1e-7)
    for _ in range(iterations):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    return left @ np.diag(values) @ right


def gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", ["adamw", "jordan"])
def test_each_step_is_the_formula(nesterov: bool, scale: str) -> None:
    model = tiny(head={"name": "language_model", "tied": False})
    optimizer = Muon(**RATES, nesterov=nesterov, scale=scale, iterations=4).build(model)
    weights = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    first = {name: np.zeros_like(w) for name, w in weights.items()}
    second = {name: np.zeros_like(w) for name, w in weights.items()}
    for step in range(1, 6):
        gradients(model, step)
        for name, p in model.named_parameters():
            assert p.grad is not None
            g, w = p.grad.numpy(), weights[name]
            decay = 0.2 if decays(name, w) else 0.0
            if is_hidden(name):
                rows, columns = w.shape
                first[name] = 0.9 * first[name] + 0.1 * g
                ahead = 0.9 * first[name] + 0.1 * g if nesterov else first[name]
                size = 0.2 * max(rows, columns) ** 0.5 if scale == "adamw" else max(1, rows / columns) ** 0.5
                weights[name] = w - 0.03 * decay * w - 0.03 * size * by_singular_values(ahead, 4)
            else:
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.95 * second[name] + 0.05 * g * g
                m, v = first[name] / (1 - 0.9**step), second[name] / (1 - 0.95**step)
                weights[name] = w - 0.02 * decay * w - 0.02 * m / (np.sqrt(v) + 1e-6)
        optimizer.step()
        for name, p in model.named_parameters():
            assert np.abs(p.detach().numpy() - weights[name]).max() < 1e-12, (step, name)


@pytest.mark.parametrize(("scale", "torchs"), [("jordan", "original"), ("adamw", "match_rms_adamw")])
def test_in_bfloat16_it_is_torchs_own_bit_for_bit(scale: str, torchs: str) -> None:
    shapes = [(12, 7), (7, 12), (8, 8)]
    ours = nn.ParameterList([torch.randn(shape) for shape in shapes])
    theirs = nn.ParameterList([p.detach().clone() for p in ours])
    mine = Muon(lr=0.02, scale=scale, bf16=True).build(ours)
    torch_muon = torch.optim.Muon(theirs.parameters(), lr=0.02, adjust_lr_fn=torchs)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        torch_muon.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_step_is_nearly_orthogonal_and_of_adamws_size() -> None:
    weights = nn.ParameterList([torch.randn(48, 16, dtype=torch.float64)])
    before = weights[0].detach().clone()
    weights[0].grad = torch.randn(48, 16, dtype=torch.float64) * 1e-6
    Muon(lr=1.0, weight_decay=0.0).build(weights).step()
    step = before - weights[0].detach()
    values = torch.linalg.svdvals(step) / (0.2 * 48**0.5)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    assert float(step.square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)


@pytest.mark.parametrize("tied", [True, False])
def test_matrices_inside_are_muons_and_only_what_should_decays(tied: bool) -> None:
    model = tiny(head={"name": "language_model", "tied": tied, "bias": True})
    optimizer = Muon(lr=0.1, weight_decay=0.5).build(model)
    named = {p: name for name, p in model.named_parameters()}
    muons = {named[p] for group in optimizer.param_groups if "momentum" in group for p in group["params"]}
    assert muons == {name for name in named.values() if is_hidden(name)}
    assert len(muons) == 8
    every = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(every) == len(set(every)) == len(named)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        shrunk = 0.95 if decays(name, p) else 1.0
        torch.testing.assert_close(p.detach(), before[name] * shrunk, rtol=1e-12, atol=0)


def test_a_frozen_matrix_stays_and_one_without_gradient_too() -> None:
    model = tiny()
    frozen, idle = model.blocks[0].feed_forward.up.weight, model.blocks[1].feed_forward.up.weight  # type: ignore[union-attr]
    frozen.requires_grad_(False)
    before = frozen.detach().clone(), idle.detach().clone()  # type: ignore[operator]
    optimizer = Muon().build(model)
    gradients(model, 0)
    frozen.grad = idle.grad = None
    optimizer.step()
    assert torch.equal(frozen, before[0])
    assert torch.equal(idle, before[1])


def test_a_model_without_matrices_inside_is_adamws() -> None:
    optimizer = Muon().build(tiny(n_layers=0))
    assert type(optimizer) is torch.optim.AdamW


def loss_of(model: Any, closure_optimizer: Any) -> Tensor:
    tokens = some_tokens()

    def closure() -> Tensor:
        closure_optimizer.zero_grad()
        loss = model.loss(tokens, tokens)
        loss.backward()
        return loss

    return closure_optimizer.step(closure)


def test_what_is_kept_and_put_back_goes_on_bit_for_bit() -> None:
    straight, cut = tiny(), tiny()
    one, two = Muon(**RATES).build(straight), Muon(**RATES).build(cut)
    for _ in range(3):
        assert torch.equal(loss_of(straight, one), loss_of(cut, two))
    kept = state.gather(cut, two, keep=True), state.numbers(cut, two)
    assert set(kept[0]["optimizer"]) == {
        f"{key}/{name}"
        for name, _ in cut.named_parameters()
        for key in (["momentum"] if is_hidden(name) else ["step", "exp_avg", "exp_avg_sq"])
    }
    again = tiny(seed=2)
    three = Muon(**{**RATES, "lr": 0.5, "adamw_lr": 0.5}).build(again)
    state.restore(again, three, *kept)
    for group in three.param_groups:
        group["lr"] = 0.03 if "momentum" in group else 0.02  # as the schedule sets it: every part must see it
    for _ in range(3):
        assert torch.equal(loss_of(straight, one), loss_of(again, three))
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), again.parameters(), strict=True))


def test_a_run_cut_in_two_ends_as_one_in_a_piece(tmp_path: Path) -> None:
    muon = {"optimizer": {"name": "muon", "lr": 0.01}}
    straight = trained(tmp_path, **muon)
    cut = trained(tmp_path, **muon, trainer__max_steps=5)
    fit(change(cut, trainer__max_steps=12))
    assert same(tensors(straight), tensors(cut))
    other = trained(tmp_path, optimizer={"name": "adamw", "lr": 0.01})
    assert not same({"w": tensors(straight)["model/norm.weight"]}, {"w": tensors(other)["model/norm.weight"]})


@pytest.fixture
def gloo() -> Iterator[Any]:
    from torch.distributed import HashStore, destroy_process_group, init_process_group  # pyright: ignore
    from torch.distributed.device_mesh import init_device_mesh

    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    destroy_process_group()


def test_a_sharded_matrix_moves_as_a_whole_one(gloo: Any) -> None:
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    whole = nn.ParameterList([torch.randn(6, 4)])
    sharded = nn.ParameterList([nn.Parameter(distribute_tensor(whole[0].detach().clone(), gloo, [Shard(0)]))])
    one, two = Muon().build(whole), Muon().build(sharded)
    for _ in range(2):
        whole[0].grad = torch.randn(6, 4)
        sharded[0].grad = distribute_tensor(whole[0].grad, gloo, [Shard(0)])
        one.step()
        two.step()
    result = sharded[0].detach()
    assert isinstance(result, DTensor)
    assert torch.equal(result.full_tensor(), whole[0].detach())


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Muon(momentum=1.0, iterations=0, adamw_lr=-1.0)
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["optimizer.momentum", "optimizer.iterations", "optimizer.adamw_lr"]
    with pytest.raises(ConfigError, match=r"optimizer\.betas"):
        Muon(betas=[0.9])
