"""What a config that leaves something out means by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from gptkit import settings

_SECTIONS = {
    "model": settings.ModelSettings,
    "data": settings.DataSettings,
    "trainer": settings.TrainerSettings,
}
_PARTS = {"objective": "next_token", "optimizer": "adamw", "schedule": "cosine", "sampler": "sample"}


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A normalised config with every key that training reads: those left out take their defaults.

    A config composed from YAML has them all; one written by hand, in Python, may not.
    """
    result: dict[str, Any] = {**_defaults(settings.RunSettings), "logger": {}, "callback": {}, **config}
    for section, cls in _SECTIONS.items():
        result[section] = {**_defaults(cls), **(config.get(section) or {})}
    for slot, name in _PARTS.items():
        result[slot] = result.get(slot) or {"name": name}
    return result


def _defaults(cls: type) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(cls)}
