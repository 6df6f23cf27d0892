"""An average of the weights, kept beside any optimizer and saved in each of its checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import gptkit
from gptkit import registry, run
from gptkit.errors import CheckpointError, ConfigError, Problem
from gptkit.registry import register
from gptkit.train.state import OPTIMIZER

if TYPE_CHECKING:
    from gptkit.model.gpt import GPT


@register("optimizer", "ema")
class Ema:
    """Any optimizer, and an average of the weights it finds (Polyak and Juditsky 1992; Kingma and Ba 2015, 7.2).

    e = e + max(1 - decay, 1 / t) (w - e) after update t: first the plain mean of all weights so far,
    later the exponential average of about the last 1 / (1 - decay). What is trained does not change.

    Args:
        decay: the share of the average that stays at each update.
        of: the optimizer whose weights are averaged, with its options.
    """

    def __init__(
        self,
        *,
        decay: float = 0.999,
        of: dict[str, Any] = {"name": "adamw"},  # noqa: B006 - read as plain data, never changed
    ) -> None:
        problems = []
        if not 0 <= decay < 1:
            problems.append(Problem("optimizer.decay", f"expected a number from 0 to below 1, got {decay}."))
        if of.get("name") in (None, "ema"):
            hint = "Take one such as optimizer.of={name: adamw, lr: 0.001}."
            problems.append(
                Problem("optimizer.of", f"expected an optimizer with a name of its own, got {of}.", hint)
            )
        if problems:
            raise ConfigError(problems)
        options = {key: value for key, value in of.items() if key != "name"}
        try:
            self.inner = registry.load("optimizer", of["name"])(**options)
        except TypeError as error:
            raise ConfigError(
                [Problem("optimizer.of", f"{of['name']} refuses {options}: {error}.")]
            ) from error
        self.decay = decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model whose parameters are where they will be trained."""
        return Averaged(self.inner.build(model), self.decay)


class Averaged(torch.optim.Optimizer):
    """An optimizer that keeps `ema`, an average, in the state of each parameter that it moves.

    Groups and state are the inner optimizer's own, so who sets a rate here sets it there.
    """

    def __init__(self, inner: torch.optim.Optimizer, decay: float) -> None:
        self.inner, self.decay = inner, decay
        super().__init__(inner.param_groups, {})
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update, then its weights are added to the average."""
        loss = self.inner.step(closure)
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state.get(weight)
                if not state:
                    continue  # never moved: an optimizer takes an empty state for a first update
                updates = state.get("ema_updates", 0) + 1
                average = state["ema"] if "ema" in state else weight.detach().clone()
                state["ema"] = average.lerp_(weight.detach(), max(1 - self.decay, 1 / updates))
                state["ema_updates"] = updates
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; the inner optimizer goes on with it."""
        self.inner.load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.inner.param_groups, self.inner.state


def averaged(
    path: str | os.PathLike[str] = run.LATEST,
    *,
    step: int | None = None,
    root: str | os.PathLike[str] = "runs",
) -> GPT:
    """The GPT of a run with the averaged weights, as `gptkit.load` gives it with the last ones.

    Args:
        path: a run directory, a part of its name, or `latest`.
        step: the checkpoint of this step; the newest sound one by default.
        root: the folder of runs.

    Raises:
        CheckpointError: the run kept no average.
    """
    found = run.find(path, root, loadable=True)
    checkpoint = found.checkpoints.load(step, groups=[OPTIMIZER], quarantine=False)
    averages = {
        full.removeprefix("ema/"): value
        for full, value in checkpoint.tensors[OPTIMIZER].items()
        if full.startswith("ema/")
    }
    if not averages:
        raise CheckpointError(f"{checkpoint.path} holds no average of the weights. Train with optimizer=ema.")
    model = gptkit.load(found.path, step=checkpoint.step)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(averages.get(name, weight))
    return model
