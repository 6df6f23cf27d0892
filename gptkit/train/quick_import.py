"""Lightning, imported in half the time."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_UNUSED = frozenset({"transformers", "scipy", "matplotlib"})


def import_lightning() -> None:
    """Import Lightning before anything else does.

    Lightning imports torchmetrics, which imports scipy, matplotlib and transformers at once where they
    are installed, for metrics that training here has no use for: more than half of the whole time.
    Meanwhile they are taken for absent. A package that is loaded already is left alone, and so is
    everything where Lightning's helpers are not what this knows.
    """
    with _absent(_UNUSED - sys.modules.keys()):
        importlib.import_module("lightning.pytorch")


@contextmanager
def _absent(packages: frozenset[str]) -> Iterator[None]:
    helpers: Any = importlib.import_module("lightning_utilities.core.imports")
    if not all(hasattr(helpers, name) for name in ("_version", "package_available", "PackageNotFoundError")):
        yield
        return
    version, available = helpers._version, helpers.package_available

    def version_of(name: str) -> str:
        if name in packages:
            raise helpers.PackageNotFoundError(name)
        return version(name)

    helpers._version = version_of
    helpers.package_available = lambda name: name not in packages and available(name)
    try:
        yield
    finally:
        helpers._version, helpers.package_available = version, available
