"""Plain data: dicts, lists, text, numbers, true, false, null; reached by keys such as `optimizer.betas[1]`."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Config = dict[str, Any]
Place = tuple[str, ...]


def steps(key: str) -> list[str]:
    """`optimizer.betas[1]` -> `optimizer`, `betas`, `1`."""
    return [step for step in re.split(r"\.|\[|\]", key) if step]


def at(value: Any, key: str) -> Any:
    """What stands at a key; None where nothing does."""
    for step in steps(key):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that holds no others, with its full key."""
    if isinstance(value, dict) and value:
        for name, entry in value.items():
            yield from leaves(entry, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value:
        for index, entry in enumerate(value):
            yield from leaves(entry, f"{key}[{index}]")
    else:
        yield key, value


def merge(config: Config, more: Mapping[str, Any]) -> None:
    """Lay one tree over another in place: groups of keys are joined, values replaced."""
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            merge(config[key], value)
        else:
            config[key] = copy.deepcopy(value)


def without(content: Mapping[str, Any], places: Iterable[Place]) -> Config:
    """A copy with some places left out."""
    result = dict(content)
    for first, *rest in places:
        held = result.get(first)
        if rest and isinstance(held, Mapping):
            result[first] = without(held, [tuple(rest)])
        else:
            result.pop(first, None)
    return result


def nested(key: str, value: Any) -> Config:
    """`("model.mask", x)` -> `{"model": {"mask": x}}`."""
    for step in reversed(steps(key)):
        value = {step: value}
    return value
