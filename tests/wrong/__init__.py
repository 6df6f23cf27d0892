"""Parts that are wrong on purpose, each with the law that it breaks; one module for each kind."""

from __future__ import annotations

import importlib
from collections.abc import Callable

_found: list[tuple[str, str, type]] = []


def faults() -> list[tuple[str, str, type]]:
    """Every wrong part: its slot, the law that it breaks, its class."""
    for module in ("positions", "masks", "attention", "layers", "text", "training"):
        importlib.import_module(f"wrong.{module}")
    return _found


def wrong(slot: str, law: str) -> Callable[[type], type]:
    """Decorator: this class breaks that law of its slot."""

    def decorate(cls: type) -> type:
        _found.append((slot, law, cls))
        return cls

    return decorate
