"""What training's parts promise: optimizers and callbacks go on exactly, schedules and samplers are pure."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gptkit.testing.checks import law
from gptkit.testing.subject import VOCABULARY, Subject, named_errors_refuse, tokens
from gptkit.train.meter import StepOutcome


@law("optimizer")
def lowers_the_loss(subject: Subject) -> None:
    """Sixty updates on one batch lower the loss."""
    model = Subject(subject.component).build().train()
    with named_errors_refuse():
        optimizer = subject.part().build(model)
    losses = [_update(model, optimizer, 0) for _ in range(60)]
    assert losses[-1] < losses[0] - 0.01, f"The loss went from {losses[0]:.3f} to {losses[-1]:.3f}."


@law("optimizer")
def goes_on_exactly(subject: Subject) -> None:
    """From its saved state it goes on bitwise as if it had never stopped."""
    model = Subject(subject.component).build().train()
    with named_errors_refuse():
        optimizer = subject.part().build(model)
    for step in range(3):
        _update(model, optimizer, step)
    twin = copy.deepcopy(model)
    other = subject.part().build(twin)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        _update(model, optimizer, step)
        _update(twin, other, step)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, twin.state_dict()[name]), f"{name} differs after it went on."


@law("optimizer")
def decays_matrices_alone(subject: Subject) -> None:
    """Without gradients norms and biases stay as they are: nothing but matrices and embeddings decays."""
    from gptkit.model.interfaces import roles

    model = Subject(subject.component).build().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    with named_errors_refuse():
        optimizer = subject.part().build(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        if roles(model)[name] in {"norm", "bias"}:
            assert torch.equal(parameter, torch.full_like(parameter, 0.5)), f"{name} decays."


@law("optimizer")
def holds_each_parameter_once(subject: Subject) -> None:
    """Every parameter that learns stands in exactly one group."""
    model = Subject(subject.component).build().train()
    with named_errors_refuse():
        optimizer = subject.part().build(model)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)), "A parameter stands in two groups."
    left = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in set(held)]
    assert not left, f"Never updated: {', '.join(left)}."


def _update(model, optimizer, step: int) -> float:
    x = tokens(4, 12, seed=step)
    loss = model.loss(x[:, :-1], x[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@law("schedule")
def is_a_function_of_the_step(subject: Subject) -> None:
    """Asked in any order it gives the same finite factors, none below zero, and rises through its warm-up."""
    schedule = subject.part()
    for total in (1, 7, 1000):
        forward = [schedule.factor(step, total) for step in range(total)]
        backward = [schedule.factor(step, total) for step in reversed(range(total))]
        assert forward == backward[::-1], "It remembers what it was asked before."
        assert all(math.isfinite(f) and 0 <= f <= 1 for f in forward), "A factor is not from 0 to 1."
        assert forward[0] > 0, "The first update moves nothing."
    warm = [schedule.factor(step, 1000) for step in range(schedule.warmup_steps)]
    assert all(a < b for a, b in itertools.pairwise(warm)), "It does not rise through its warm-up."


@law("sampler")
def draws_what_it_says(subject: Subject) -> None:
    """Probabilities sum to 1, do not change the scores, and the token drawn has one above 0."""
    sampler = subject.part()
    logits = torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    kept, history = logits.clone(), [[1, 2], [3], [], [0, 0, 0]]
    for row_history in (None, history):
        p = sampler.probabilities(logits, row_history)
        assert torch.equal(logits, kept), "It changed the scores that it was given."
        assert (p >= 0).all(), "A probability is below 0."
        assert torch.allclose(p.sum(-1), torch.ones(4, dtype=p.dtype), atol=1e-12), "They do not sum to 1."
        for u in (0.0, 0.3, 0.999999):
            drawn = sampler.draw(logits, row_history, [u] * 4)
            assert ((drawn >= 0) & (drawn < VOCABULARY)).all(), "It drew what is no token."
            assert (p.gather(1, drawn[:, None]) > 0).all(), "It drew a token of probability 0."
            assert torch.equal(drawn, sampler.draw(logits, row_history, [u] * 4)), (
                "The same number drew another token."
            )


@law("objective")
def sums_over_targets(subject: Subject) -> None:
    """A batch's loss is the sum of its rows' losses, the count that of its targets, and gradients are finite."""
    from gptkit.train.objectives import Batch

    model, objective, x = Subject(subject.component).build().double().eval(), subject.part(), tokens(4, 12)
    targets = x.roll(-1, 1)
    targets[:, -1] = -100
    total, count = objective.loss(model, Batch(x, targets))
    halves = [objective.loss(model, Batch(x[i : i + 2], targets[i : i + 2])) for i in (0, 2)]
    summed = halves[0][0] + halves[1][0]
    assert torch.allclose(total, summed, rtol=1e-12), "Half batches do not add up to the whole: is it a mean?"
    assert int(count) == int(halves[0][1]) + int(halves[1][1]) > 0, "The count of halves is not the whole's."
    total.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads, "It has no gradient."
    assert all(torch.isfinite(grad).all() for grad in grads), "A gradient is not finite."
    none, nothing = objective.loss(model, Batch(x, torch.full_like(x, -100)))
    assert (float(none.detach()), int(nothing)) == (0.0, 0), (
        "Where no target counts it still counts something."
    )


@law("callback")
def only_watches(subject: Subject) -> None:
    """Told of steps and validations it answers yes or no, and the weights that are trained stay bit for bit."""
    model, callback = Subject(subject.component).build(), subject.part()
    callback.start(model, [])
    before: dict[str, Tensor] = {}
    for step in range(1, 4):
        _move(model, step)
        before = copy.deepcopy(model.state_dict())
        assert callback.after_step(_outcome(step)) in (True, False), "after_step answers neither yes nor no."
        _same(model, before, "Told of a step, it")
        for _ in range(2):
            callback.eval()
            callback.train()
        _same(model, before, "From eval to train it")
        assert callback.after_validation(step, 2.0 / step) in (True, False), "after_validation does neither."
        _same(model, before, "Told of a validation, it")
    callback.finish({"status": "finished"})
    _same(model, before, "At the end it")


@law("callback")
def is_kept_by_checkpoints(subject: Subject) -> None:
    """From a checkpoint, trained weights and those that stand in for them go on bitwise as if it had never stopped."""
    from gptkit.train import state

    def checkpoint(model: Any, callback: Any) -> dict[str, dict[str, Tensor]]:
        callback.eval()
        held = copy.deepcopy(state.gather(model, optimizer(model), True, {"it": callback}))
        callback.train()
        return held

    def optimizer(model: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1)

    model, callback = Subject(subject.component).build(), subject.part()
    callback.start(model, [])
    _steps(model, callback, range(1, 4))
    held = checkpoint(model, callback)
    _steps(model, callback, range(4, 6))
    twin, other = Subject(subject.component).build(), subject.part()
    state.restore(twin, optimizer(twin), held, {}, {"it": other})
    for weight, kept in other.state.items():
        wrong = [word for word, tensor in kept.items() if tensor.shape != weight.shape]
        assert not wrong, f"{', '.join(wrong)} has not the shape of its parameter."
    other.train()
    other.start(twin, [])
    _steps(twin, other, range(4, 6))
    _same(twin, model.state_dict(), "Having gone on, it")
    expected, found = checkpoint(model, callback), checkpoint(twin, other)
    assert expected.keys() == found.keys(), f"A checkpoint holds {set(found)} and not {set(expected)}."
    for group, tensors in expected.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, found[group][name]), f"{group} {name} differs after it went on."


def _steps(model: Any, callback: Any, steps: range) -> None:
    for step in steps:
        _move(model, step)
        callback.after_step(_outcome(step))


@torch.no_grad()
def _move(model: Any, step: int) -> None:
    """Weights move as in an update, by numbers that follow from the step."""
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def _outcome(step: int) -> StepOutcome:
    return StepOutcome(step, 2.0 / step, 48, 1.0, 1e-3, None)  # type: ignore[arg-type]


def _same(model: Any, expected: Mapping[str, Tensor], who: str) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), f"{who} changed {name}."


@law("logger", once=True)
def takes_what_a_run_tells(subject: Subject) -> None:
    """Through a run's life, resumed at a later step, it raises nothing and writes in the run's folder alone."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        run.mkdir()
        (run / "metrics.jsonl").write_text("")
        for first in (1, 3):
            with named_errors_refuse():
                logger = subject.part()
                logger.start(run, {"seed": 1, "model": {"n_layers": 1}}, "a-run")
            logger.log({"loss": 2.5, "seconds": 0.1}, first)
            logger.log({"val_loss": 2.4}, first + 1)
            logger.text("sample", "To be", first + 1)
            logger.finish({"status": "finished", "val_loss": 2.4})
            assert all(isinstance(line, str) for line in logger.messages()), "messages() gives no lines."
        assert [path.name for path in Path(place).iterdir()] == ["run"], "It wrote outside the run's folder."
