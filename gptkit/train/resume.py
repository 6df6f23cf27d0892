"""Whether a run may go on from a checkpoint: what it learned so far must still mean the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gptkit import schema
from gptkit.errors import ConfigError, Problem
from gptkit.run import CONFIG, Run
from gptkit.train.defaults import completed

FIXED = ("seed", "model", "data", "tokenizer", "objective", "optimizer.name")
FREE = frozenset({"model.preset", "data.path"})  # a label; and a place, whose text has a fingerprint


def check_resumable(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a config that differs from the run's in what decides its weights.

    The budget, the hardware, the learning rate and its schedule, the loggers and the names may
    change; the model, the data and their order, the tokenizer, the objective, the kind of optimizer
    and a callback that stands in other weights, such as an average, may not.

    Args:
        before: the normalised config that the checkpoint was trained with.
        now: the normalised config to go on with.

    Raises:
        ConfigError: carries one problem for each key that may not change.
    """
    problems = [
        Problem(
            key,
            f"the run was trained with {_shown(old)}, and cannot go on with {_shown(new)}.",
            "Leave it as it was, or start a new run without resume.",
        )
        for root in (*FIXED, *_judges(before, now))
        for key, old, new in _changes(root, _at(before, root), _at(now, root))
        if key not in FREE
    ]
    if problems:
        raise ConfigError(problems)


def reconfigure(run: Run, config: Mapping[str, Any]) -> None:
    """Give a run another config to go on with, such as more steps; its old one stands if it may not.

    Args:
        run: found, perhaps finished.
        config: the whole resolved config; usually the run's own with a few values changed.

    Raises:
        ConfigError: the config cannot be built, or differs in what decides the weights.
    """
    checked = schema.check(dict(config))
    if done := run.checkpoints.steps():
        check_resumable(completed(run.config()), completed(checked))
        asked = completed(checked)["trainer"]["max_steps"]
        if asked < max(done):
            told = f"the run has done {max(done)} steps already, and cannot end after {asked}."
            raise ConfigError([Problem("trainer.max_steps", told, f"Take more than {max(done)}.")])
    run.write_json(CONFIG, checked)


def check_text(before: str, now: str) -> None:
    """Refuse to go on with another text than the one that the checkpoint was trained on.

    Args:
        before, now: fingerprints of the tokens and their tokenizer.

    Raises:
        ConfigError: they differ.
    """
    if before != now:
        raise ConfigError(
            [
                Problem(
                    "data.path",
                    "the text, or what its tokenizer makes of it, is not what the run was trained on.",
                    "Put the text back as it was, or start a new run without resume.",
                )
            ]
        )


def _judges(*configs: Mapping[str, Any]) -> list[str]:
    """The callbacks that have a run judged by other weights than those that are trained."""
    names = dict.fromkeys(name for config in configs for name in config.get("callback") or {})
    if not names:
        return []
    from gptkit.train.callbacks import stands_in  # which takes torch

    return [f"callback.{name}" for name in names if stands_in(name)]


def _changes(key: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys((*before, *now)):
            yield from _changes(f"{key}.{name}", before.get(name), now.get(name))
    elif before != now:
        yield key, before, now


def _at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)
