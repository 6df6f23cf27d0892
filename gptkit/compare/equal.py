"""What makes variants equal: the same budget for each, and as many parameters.

A budget of tokens or operations becomes `trainer.max_steps`; of seconds, the `time_limit` callback.
Parameters are counted on the meta device, where no weight is made.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gptkit.errors import ConfigError, Problem, did_you_mean

BUDGETS = ("tokens", "flops", "seconds")
_WIDEST = 1 << 20


@dataclass(frozen=True)
class Budget:
    """What each variant may use: so many tokens, operations or seconds."""

    kind: str
    value: float

    @classmethod
    def read(cls, text: str) -> Budget:
        """From `tokens:1e6`.

        Raises:
            ConfigError: it is no kind of budget, or no positive number.
        """
        kind, _, amount = text.partition(":")
        if kind not in BUDGETS:
            hint = did_you_mean(kind, BUDGETS) or f"Take one of: {', '.join(BUDGETS)}."
            raise ConfigError(
                [Problem("budget", f"expected a kind and an amount, as in tokens:1e6, got {text!r}.", hint)]
            )
        try:
            value = float(amount)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise ConfigError(
                [Problem("budget", f"expected a positive number after {kind}:, got {amount!r}.")]
            )
        return cls(kind, value)

    def words(self, config: Mapping[str, Any]) -> list[str]:
        """What makes a config keep to it, as words of a command line."""
        if self.kind == "seconds":
            return ["+callback=time_limit", f"callback.time_limit.minutes={self.value / 60:.6g}"]
        each = 1.0 if self.kind == "tokens" else sizes(config).flops_per_token
        return [f"trainer.max_steps={max(1, round(self.value / (each * tokens_per_step(config))))}"]


def tokens_per_step(config: Mapping[str, Any]) -> int:
    """Targets of one update; the batch counts all devices and all that is accumulated."""
    return config["data"]["batch_size"] * config["model"]["context_length"]


@dataclass(frozen=True)
class Sizes:
    """Learned parameters, and operations of training for each token."""

    parameters: int
    flops_per_token: float


def sizes(config: Mapping[str, Any]) -> Sizes:
    """Of the model that a config describes."""
    from gptkit.model.cost import flops_per_token

    model = _model(config)
    return Sizes(model.n_parameters(), flops_per_token(model, config["model"]["context_length"]))


def matching_width(config: Mapping[str, Any], parameters: int) -> tuple[int | None, int]:
    """The `model.d_ff` with which a model has as nearly as possible so many parameters.

    Args:
        config: the variant's.
        parameters: how many to reach.

    Returns:
        the width, and the parameters with it; None where the model as it is cannot come nearer, such as
        one without a feed-forward network.
    """

    def at(width: int) -> int:
        changed = copy.deepcopy(dict(config))
        changed["model"]["d_ff"] = width
        return _model(changed).n_parameters()

    as_is = _model(config).n_parameters()
    if as_is == parameters:
        return None, as_is
    low, high = 1, 2
    least = at(low)
    if at(high) == least:  # nothing depends on it
        return None, as_is
    while at(high) < parameters and high < _WIDEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle) < parameters else (low, middle)
    near = min((low, high), key=lambda width: abs(at(width) - parameters))
    found = at(near)
    return (near, found) if abs(found - parameters) < abs(as_is - parameters) else (None, as_is)


def _model(config: Mapping[str, Any]) -> Any:
    from gptkit.model.assemble import build
    from gptkit.text.vocabulary import vocabulary

    return build(config, vocab_size=vocabulary(config), device="meta")
