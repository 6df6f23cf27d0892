"""One optimizer step: its gradient, its randomness, and when it is refused."""

from __future__ import annotations

import random
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptkit.train.gradients import clip_factor, global_norm, scale
from gptkit.train.module import NonFiniteError, TrainingModule
from gptkit.train.rng import micro_batch_seed, seed_micro_batch
from steps import RATE, difference, plain_loop, train
from tiny import tiny


@pytest.mark.parametrize("micro", [None, 4, 2, 1])
@pytest.mark.parametrize("clip", [0.5, None])
@pytest.mark.parametrize("ignored", [False, True])
def test_steps_are_those_of_a_plain_loop_however_the_batch_is_cut(
    micro: int | None, clip: float | None, ignored: bool
) -> None:
    theirs = tiny()
    told = plain_loop(theirs, clip=clip, ignored=ignored)
    ours, outcomes = train(micro=micro, clip=clip, ignored=ignored)
    assert difference(ours, theirs) < 1e-12
    for outcome, (loss, norm) in zip(outcomes, told, strict=True):
        assert outcome.loss == pytest.approx(loss, abs=1e-12)
        assert outcome.gradient_norm == pytest.approx(norm, abs=1e-11)
        assert outcome.tokens == 8 * 6  # what counts for nothing is read all the same
    assert [outcome.step for outcome in outcomes] == [1, 2, 3, 4]


def dropping(seed: int = 1) -> torch.nn.Module:
    block, embedding = {"name": "pre", "dropout": 0.3}, {"name": "token", "dropout": 0.3}
    attention = {"name": "multi_head", "dropout": 0.3}
    return tiny(seed=seed, block=block, embedding=embedding, attention=attention)


def test_the_same_seed_gives_bitwise_the_same_weights_and_another_does_not() -> None:
    torch.manual_seed(1)
    once, _ = train(dropping(), micro=4)
    torch.manual_seed(2)  # what came before is of no account
    random.seed(3)
    again, _ = train(dropping(), micro=4)
    other, _ = train(dropping(), micro=4, seed=8)
    assert difference(once, again) == 0
    assert difference(once, other) > 1e-6


def test_the_randomness_of_a_step_does_not_depend_on_the_steps_before() -> None:
    from gptkit.train.objectives import NextToken

    seen: list[float] = []

    class Noting(NextToken):
        def loss(self, model, batch):
            seen.append(torch.rand(()).item())
            seen.append(random.random())
            seen.append(np.random.rand())
            return super().loss(model, batch)

    import steps as steps_module

    original, steps_module.NextToken = steps_module.NextToken, Noting
    try:
        train(steps=3, micro=4)
    finally:
        steps_module.NextToken = original
    expected = []
    for step in range(3):
        for slot in range(2):
            seed_micro_batch(7, step, slot)
            expected += [torch.rand(()).item(), random.random(), np.random.rand()]
    assert seen == expected
    assert len(set(seen)) == len(seen)


def test_the_seed_of_a_micro_batch_never_changes() -> None:
    """A resumed run, another machine and a later version must draw the same."""
    assert micro_batch_seed(1337, 0, 0) == 15566092771279906893
    assert micro_batch_seed(1337, 1, 0) != micro_batch_seed(1337, 0, 1)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_before_the_weights_change(where: str) -> None:
    model = tiny()
    if where == "loss":
        with torch.no_grad():
            model.blocks[0].feed_forward.up.bias[0] = float("inf")
    else:
        model.blocks[1].feed_forward.down.weight.register_hook(lambda grad: grad * float("nan"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(NonFiniteError, match=r"Step 1: .*(nan|inf).*optimizer\.lr") as caught:
        train(model)
    assert ("norm" in str(caught.value)) == (where == "gradient")
    for name, p in model.named_parameters():
        assert torch.equal(p.detach(), before[name])


def test_bf16_runs_the_forward_pass_in_half_precision_and_keeps_weights_whole() -> None:
    types: set[torch.dtype] = set()
    model = tiny().float()
    model.blocks[0].feed_forward.up.register_forward_hook(lambda m, a, out: types.add(out.dtype))
    trained, outcomes = train(model, precision="bf16", micro=4)
    assert types == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in trained.parameters())
    whole, exact = train(tiny().float(), micro=4)
    assert outcomes[-1].loss == pytest.approx(exact[-1].loss, rel=0.02)
    assert 0 < difference(trained, whole) < 0.1


def test_the_learning_rate_is_the_schedule_times_the_optimizers() -> None:
    _, outcomes = train(steps=4)
    assert [outcome.learning_rate for outcome in outcomes] == pytest.approx(
        [RATE / 3, RATE * 2 / 3, RATE, RATE]
    )


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), min_size=1, max_size=5))
def test_the_norm_is_that_of_one_long_vector(parts: list[list[float]]) -> None:
    tensors = [torch.tensor(part, dtype=torch.float64) for part in parts]
    expected = np.linalg.norm([number for part in parts for number in part])
    assert global_norm(tensors).item() == pytest.approx(expected, rel=1e-12, abs=1e-150)
    scale(tensors, 0.5)
    assert global_norm(tensors).item() == pytest.approx(expected / 2, rel=1e-12, abs=1e-150)


def test_clipping_only_ever_shrinks() -> None:
    assert clip_factor(0.5, 1.0) == 1.0
    assert clip_factor(4.0, 1.0) == pytest.approx(0.25, rel=1e-6)
    assert clip_factor(1e9, None) == 1.0


def test_only_the_last_micro_batch_is_summed_over_devices() -> None:
    held = SimpleNamespace(trainer=SimpleNamespace(model=SimpleNamespace(no_sync=lambda: "held back")))
    assert TrainingModule._sync(held, now=False) == "held back"  # type: ignore[arg-type]
    assert isinstance(TrainingModule._sync(held, now=True), nullcontext)  # type: ignore[arg-type]
