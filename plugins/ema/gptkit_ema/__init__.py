"""An average of the weights, kept beside any optimizer; validated and saved in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gptkit import registry
from gptkit.errors import ConfigError, Problem
from gptkit.registry import register


@register("optimizer", "ema")
class Ema:
    """Any optimizer, and an average of the weights it finds (Polyak and Juditsky 1992; Kingma and Ba 2015, 7.2).

    e = e + max(1 - decay, 1 / t) (w - e) after update t: first the plain mean of all weights so far,
    later the exponential average of about the last 1 / (1 - decay). What is trained does not change;
    what is validated, sampled from and saved as the model is e.

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

    Groups and state are the inner optimizer's own, so who sets a rate here sets it there. After `eval`
    the parameters are the averages, and `last` keeps what `train` puts back.
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

    @torch.no_grad()
    def eval(self) -> None:
        """Put the averages, which are to be used, in the place of the weights."""
        for weight, state in self.state.items():
            if "ema" in state and "last" not in state:
                state["last"] = weight.detach().clone()
                weight.copy_(state["ema"])

    @torch.no_grad()
    def train(self) -> None:
        """Put the weights back that are trained."""
        for weight, state in self.state.items():
            if "last" in state:
                weight.copy_(state.pop("last"))

    def _share(self) -> None:
        self.param_groups, self.state = self.inner.param_groups, self.inner.state
