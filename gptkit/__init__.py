"""gptkit: a GPT is a composition of named parts.

    cfg = gptkit.compose(["model=nano", "model/position=sinusoidal"])
    model = gptkit.build(cfg)
    model = gptkit.load("runs/…")
    print(model.generate("To be"))

Importing gptkit imports no torch; each name below brings what it needs when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptkit import errors
    from gptkit.compose import compose
    from gptkit.interop.hugging_face import load_hf, save_hf
    from gptkit.load import build, load, save
    from gptkit.registry import register
    from gptkit.schema import validate

__version__ = "0.1.0"
__all__ = [
    "__version__", "build", "compose", "errors", "load", "load_hf", "register", "save", "save_hf", "validate",
]  # fmt: skip

_HOMES = {
    "build": "gptkit.load",
    "compose": "gptkit.compose",
    "load": "gptkit.load",
    "load_hf": "gptkit.interop.hugging_face",
    "register": "gptkit.registry",
    "save": "gptkit.load",
    "save_hf": "gptkit.interop.hugging_face",
    "validate": "gptkit.schema",
}


class _Face(ModuleType):
    """Keeps `gptkit.load` the function: importing the module of that name would put itself there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name == "errors":
        value = importlib.import_module("gptkit.errors")
    else:
        raise AttributeError(f"module 'gptkit' has no attribute {name!r}; it offers {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
