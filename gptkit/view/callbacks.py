"""What a callback does to a run: the weights that it has judged, and where it ends the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from gptkit.pictures import Figure
from gptkit.registry import Component
from gptkit.train.agreement import Ballot
from gptkit.train.callbacks import Callback
from gptkit.train.meter import StepOutcome
from gptkit.view.curves import over_steps

_STEPS, _VALIDATE_EVERY, _RATE = 1000, 20, 0.05


@dataclass
class Run:
    """A run of one weight, from 1 towards 0.

    Attributes:
        trained, judged: steps with the weight that is trained, and with what stands in its place.
        losses: steps of validations with the loss of the latter.
        end: the step at which the callback had enough, if it had.
    """

    trained: list[tuple[float, float]] = field(default_factory=list)
    judged: list[tuple[float, float]] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)
    end: int | None = None


def callback(component: Component, options: Mapping[str, Any]) -> Iterator[Figure]:
    """The weight that is trained and the one that stands in for it; the validations until the run ends."""
    run = observed(component.load()(**options))
    if run.judged != run.trained:
        note = "grey: trained; blue: validated and saved"
        yield over_steps(
            run.judged, "The weight of a noisy quadratic", behind=run.trained, note=note, width=400
        )
    if run.end is not None:
        seen = [point for point in run.losses if point[0] <= run.end]
        note = f"blue: until the run is ended at step {run.end}"
        yield over_steps(
            seen, "The validation loss of a noisy quadratic", behind=run.losses, note=note, width=400
        )


def observed(made: Callback) -> Run:
    """A run of SGD on w^2 / 2, whose gradient is w and a standard normal draw; the run goes on where it was ended."""
    run, model = Run(), torch.nn.Linear(1, 1, bias=False)
    weight, draw = model.weight.detach().fill_(1.0), torch.Generator().manual_seed(1)
    made.start(model, [])
    for step in range(1, _STEPS + 1):
        slope = weight + torch.randn(weight.shape, generator=draw)
        loss = weight.square().sum().item() / 2
        weight -= _RATE * slope
        ballot = Ballot(loss, 1, finite=True, signal=0, enough=False)
        enough = made.after_step(StepOutcome(step, loss, 1, slope.norm().item(), _RATE, ballot))
        run.trained.append((step, weight.item()))
        made.eval()
        run.judged.append((step, weight.item()))
        if step % _VALIDATE_EVERY == 0:
            judged = weight.square().sum().item() / 2
            run.losses.append((step, judged))
            enough |= made.after_validation(step, judged)
        made.train()
        run.end = step if enough and run.end is None else run.end
    return run
