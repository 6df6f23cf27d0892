"""What can be seen of a config before anything is trained: whether its parts fit one another and its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gptkit.errors import ConfigError, GptkitError, Problem

if TYPE_CHECKING:
    from gptkit.text.shards import Dataset


def preflight(config: Mapping[str, Any], *, read_text: bool = True) -> Dataset | None:
    """Build a model without its weights, and what trains and samples it, and read its text.

    Args:
        config: whole.
        read_text: encode the text, which training would otherwise do; it is kept.

    Returns:
        The text; None where it was not read.

    Raises:
        ConfigError: it cannot be trained; carries everything that is wrong.
    """
    from gptkit.text.shards import prepare

    problems: list[Problem] = []

    def attempt(what: Callable[[], Any]) -> Any:
        try:
            return what()
        except ConfigError as error:
            problems.extend(error.problems)
        except GptkitError as error:
            problems.append(Problem("", str(error)))

    attempt(lambda: _model(config))
    for slot, name, options in _parts(config):
        attempt(partial(_look, slot, name, options))
    data = attempt(lambda: prepare(config)) if read_text else None
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return data


def _model(config: Mapping[str, Any]) -> None:
    """Build it, and see whether it reads the tokens and the whole context."""
    from gptkit.model.assemble import build
    from gptkit.text.vocabulary import vocabulary

    free = {**config, "model": {**config["model"], "vocab_size": None}}
    model = build(config, vocab_size=vocabulary(free), device="meta")
    context, reach = config["model"]["context_length"], model.max_positions
    if reach is not None and context > reach:
        told = f"{context} tokens are more than the {reach} positions that model.position can tell."
        raise ConfigError(
            [Problem("model.context_length", told, f"Take {reach} or less, or more positions.")]
        )


def _parts(config: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """What trains a model, samples it and tells of it: (slot, name, options)."""
    from gptkit import schema

    for slot in ("objective", "optimizer", "schedule", "sampler"):
        if config.get(slot):
            yield slot, config[slot]["name"], schema.part_options(slot, config[slot])
    for slot in ("logger", "callback"):
        for name, options in (config.get(slot) or {}).items():
            yield slot, name, options


def _look(slot: str, name: str, options: Mapping[str, Any]) -> None:
    """Have a part look at its options."""
    from gptkit import registry

    registry.load(slot, name)(**options)
