"""The average against a loop, beside several optimizers, and through a run that was cut in two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import gptkit
from gptkit import registry
from gptkit.errors import ConfigError, UnknownNameError
from gptkit.train import state
from gptkit.train.fit import fit
from gptkit.train.optimizers import AdamW
from small_runs import change, rows, same, tensors, trained  # pyright: ignore[reportMissingImports]
from tiny import some_tokens, tiny  # pyright: ignore[reportMissingImports]

Ema: Any = registry.load("optimizer", "ema")


def update(model: Any, optimizer: Any, seed: int) -> None:
    tokens = some_tokens(seed=seed)
    optimizer.zero_grad()
    model.loss(tokens, tokens).backward()
    optimizer.step()


def test_the_average_is_its_formula_and_training_does_not_notice() -> None:
    plain, model = tiny(), tiny()
    theirs = AdamW(lr=0.02).build(plain)
    optimizer = Ema(decay=0.75, of={"name": "adamw", "lr": 0.02}).build(model)
    history: dict[str, list[torch.Tensor]] = {name: [] for name, _ in model.named_parameters()}
    for step in range(1, 10):
        update(plain, theirs, step)
        update(model, optimizer, step)
        for name, p in model.named_parameters():
            assert torch.equal(p, plain.get_parameter(name))
            history[name].append(p.detach().clone())
            # The mean of the first four, whose share then shrinks by 3/4 at each update.
            early, late = history[name][:4], history[name][4:]
            expected = sum(early) / len(early) * 0.75 ** len(late)  # type: ignore[operator]
            expected = expected + sum(0.25 * 0.75 ** (len(late) - 1 - i) * w for i, w in enumerate(late))
            assert (optimizer.state[p]["ema"] - expected).abs().max() < 1e-12


THERE = [name for name in ("muon", "lion", "soap") if name in registry.names("optimizer")]


@pytest.mark.parametrize("of", [{"name": "adamw", "fused": False}, *({"name": name} for name in THERE)])
def test_what_is_kept_and_put_back_goes_on_bit_for_bit(of: dict[str, Any]) -> None:
    straight, cut, again = tiny(), tiny(), tiny(seed=2)
    one, two, three = (Ema(decay=0.9, of=of).build(model) for model in (straight, cut, again))
    for step in range(4):
        update(straight, one, step)
        update(cut, two, step)
    state.restore(again, three, state.gather(cut, two, keep=True), state.numbers(cut, two))
    for group in (*one.param_groups, *three.param_groups):
        group["lr"] = 0.005
    for step in range(4, 8):
        update(straight, one, step)
        update(again, three, step)
    for a, b in zip(straight.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(one.state[a]["ema"], three.state[b]["ema"])
        assert one.state[a]["ema_updates"] == three.state[b]["ema_updates"] == 8


def test_a_weight_whose_first_gradient_comes_late_is_averaged_from_then_on() -> None:
    model = tiny()
    late, optimizer = model.blocks[0].feed_forward.up.weight, Ema().build(model)
    for step in range(3):
        tokens = some_tokens(seed=step)
        optimizer.zero_grad()
        model.loss(tokens, tokens).backward()
        late.grad = late.grad if step == 2 else None
        optimizer.step()
    assert optimizer.state[late]["ema_updates"] == 1
    assert torch.equal(optimizer.state[late]["ema"], late)


def test_a_run_cut_in_two_ends_as_one_in_a_piece_and_its_average_is_what_it_is_judged_by(
    tmp_path: Path,
) -> None:
    ema = {"optimizer": {"name": "ema", "decay": 0.8, "of": {"name": "adamw", "lr": 0.01}}}
    straight = trained(tmp_path, **ema)
    cut = trained(tmp_path, **ema, trainer__max_steps=5)
    fit(change(cut, trainer__max_steps=12))
    held = tensors(cut)
    assert same(tensors(straight), held)
    plain, model = trained(tmp_path, optimizer={"name": "adamw", "lr": 0.01}), gptkit.load(cut.path)
    weights = tensors(plain)
    for name, weight in model.named_parameters():
        assert torch.equal(weight.detach(), held[f"optimizer/ema/{name}"])
        assert torch.equal(weights[f"model/{name}"], held[f"optimizer/last/{name}"])
        assert not torch.equal(weight, weights[f"model/{name}"])
    judged, unaveraged = rows(straight)[-1], rows(plain)[-1]
    assert judged["loss"] == unaveraged["loss"]  # of training, which did not notice
    assert judged["val_loss"] != unaveraged["val_loss"]


def test_looking_on_twice_or_not_at_all_changes_nothing() -> None:
    model = tiny()
    optimizer = Ema(decay=0.5).build(model)
    optimizer.eval()
    for step in range(3):
        update(model, optimizer, step)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.train()
    for look in (optimizer.eval, optimizer.eval):
        look()
        assert all(torch.equal(p, optimizer.state[p]["ema"]) for p in model.parameters())
    optimizer.train()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all("last" not in state for state in optimizer.state.values())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.decay"):
        Ema(decay=1.0)
    with pytest.raises(ConfigError, match=r"optimizer\.of: expected an optimizer with a name of its own"):
        Ema(of={"name": "ema"})
    with pytest.raises(ConfigError, match=r"adamw refuses \{'rate': 3\}"):
        Ema(of={"name": "adamw", "rate": 3})
    with pytest.raises(UnknownNameError, match="adamv"):
        Ema(of={"name": "adamv"})
