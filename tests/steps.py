"""Optimizer steps through Lightning without a run's folder, and the same steps as a plain loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from gptkit.train import strategies
from gptkit.train.agreement import Agreement
from gptkit.train.data import Share, StepBatch
from gptkit.train.meter import StepOutcome
from gptkit.train.module import TrainingModule
from gptkit.train.objectives import NextToken
from gptkit.train.schedules import Constant, Schedule
from gptkit.train.world import World
from tiny import VOCAB, tiny

ROWS, LENGTH = 8, 6
RATE = 0.1


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """Weights that differ no more than gradients do; Adam makes a lot of the noise around zero."""
    return torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)


def config(**trainer: Any) -> dict[str, Any]:
    """As much of a config as a trainer needs."""
    settings = {"strategy": "auto", "precision": "32", "tensor_parallel": 1, "threads": None, **trainer}
    return {"accelerator": "cpu", "devices": "auto", "nodes": 1, "trainer": settings}


def rows(step: int, ignored: bool = False) -> tuple[Tensor, Tensor]:
    """The examples of a step, [8, 6]; with `ignored`, some targets count for nothing, unevenly."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(0, VOCAB, (ROWS, LENGTH + 1), generator=generator)
    targets = tokens[:, 1:].clone()
    if ignored:
        targets[0] = -100
        targets[5, 2:] = -100
    return tokens[:, :-1], targets


def batches(first: int, last: int, share: Share, ignored: bool = False) -> Iterable[StepBatch]:
    for step in range(first, last):
        cut = [part.view(share.accumulation, share.micro, LENGTH) for part in rows(step, ignored)]
        yield StepBatch(step, cut[0], cut[1])


class Watch(Callback):
    """Keeps what each update was."""

    def __init__(self) -> None:
        self.outcomes: list[StepOutcome] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.outcomes.append(pl_module.outcome)


def train(
    model: nn.Module | None = None,
    *,
    micro: int | None = None,
    steps: int = 4,
    clip: float | None = 0.5,
    ignored: bool = False,
    seed: int = 7,
    schedule: Schedule | None = None,
    precision: str = "32",
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
) -> tuple[nn.Module, list[StepOutcome]]:
    """A model trained for some steps, and what each one was."""
    model = tiny() if model is None else model
    model.train()
    share, watch = Share.of(ROWS, micro), Watch()
    module = TrainingModule(
        lambda mesh: model,
        optimizer or sgd,
        lambda first: batches(first, steps, share, ignored),
        NextToken(),
        schedule or Constant(warmup_steps=2),
        share=share,
        seed=seed,
        max_steps=steps,
        gradient_clip=clip,
        agreement=Agreement(lambda: 0),
    )
    strategies.make_trainer(config(precision=precision), World(), [watch]).fit(module)
    return model, watch.outcomes


def plain_loop(
    model: nn.Module, *, steps: int = 4, clip: float | None = 0.5, ignored: bool = False
) -> list[tuple[float, float]]:
    """The same training, written plainly; returns each step's loss and gradient norm."""
    optimizer = sgd(model)
    told = []
    for step in range(steps):
        tokens, targets = rows(step, ignored)
        logits = model(tokens)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = sum(p.grad.pow(2).sum() for p in model.parameters()) ** 0.5
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 3)
        optimizer.step()
        told.append((loss.item(), float(norm)))
    return told


def difference(one: nn.Module, other: nn.Module) -> float:
    """The largest difference between two models' weights."""
    theirs = dict(other.named_parameters())
    return max((p.detach() - theirs[name].detach()).abs().max().item() for name, p in one.named_parameters())
