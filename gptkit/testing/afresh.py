"""A process that begins with one module: what importing it and building its parts change around them.

    python -m gptkit.testing.afresh     started once by `changes`, asked about one module after another

It holds torch and what every model needs; each module is imported in a fork of its own, or, where a
system cannot fork, after those asked about before.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from gptkit import registry
from gptkit.errors import GptkitError
from gptkit.registry import Component, Origin
from gptkit.testing.checks import ENVIRONMENT, subjects_of


def state_around() -> dict[str, Any]:
    """What no part may change: random generators, dtype, threads, environment, working directory."""
    import numpy as np
    import torch

    kind, words, *rest = np.random.get_state()
    return {
        "torch's random generator": bytes(torch.get_rng_state().tolist()),
        "random's generator": random.getstate(),
        "NumPy's generator": (kind, bytes(words), *rest),  # type: ignore[arg-type]
        "the default dtype": torch.get_default_dtype(),
        "the threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "the choice of deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "the precision of products": torch.get_float32_matmul_precision(),
        "whether gradients are kept": torch.is_grad_enabled(),
        "the environment": dict(os.environ),
        "the working directory": os.getcwd(),
    }


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What two states differ in, in words; empty where they do not."""
    return ", ".join(name for name in before if before[name] != after[name])


@cache
def changes(parts: tuple[Component, ...]) -> str:
    """What changes when a module is imported and its parts are built, in words; empty if nothing does.

    Args:
        parts: those of one module.
    """
    process = _process()
    own = {key: value for key, value in os.environ.items() if key.startswith("GPTKIT_")}
    place = os.getcwd(), {**ENVIRONMENT, **own}, sys.path
    process.stdin.write(json.dumps([[_written(part) for part in parts], *place]) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def _written(part: Component) -> dict[str, Any]:
    """A part as JSON can hold it."""
    origin = {**vars(part.origin), "location": str(part.origin.location)}
    source = str(part.source) if part.source else None
    names = {key: getattr(part, key) for key in ("slot", "name", "module", "attribute")}
    return {**names, "origin": origin, "source": source}


def _read(told: Mapping[str, Any]) -> Component:
    origin = Origin(**{**told["origin"], "location": Path(told["origin"]["location"])})
    return Component(**{**told, "origin": origin, "source": Path(told["source"]) if told["source"] else None})


@cache
def _process() -> Any:
    known = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "gptkit.testing.afresh"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=known, encoding="utf-8"
    )
    atexit.register(process.communicate)
    return process


def _enter(folder: str, environment: dict[str, str], path: list[str]) -> None:
    """Stand where the one who asks stands, and know the parts that are known there."""
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    os.chdir(folder)
    _know(folder, environment.get("GPTKIT_PLUGINS"))


@lru_cache(maxsize=1)
def _know(folder: str, plugins: str | None) -> None:
    registry.refresh()
    registry.catalogue()


def _seen(parts: tuple[Component, ...]) -> str:
    """`changes`, in the process that is changed."""

    def look() -> dict[str, Any]:
        return {**state_around(), "the files of the working directory": sorted(os.listdir())}

    told: list[str] = []
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        before = look()
        try:
            parts[0].load()
        except GptkitError as error:
            return f"In a new process: {error}"
        if found := changed(before, look()):
            told.append(f"Importing {parts[0].module} changed {found}.")
        for part in parts:
            before = look()
            with suppress(Exception):  # other laws tell what cannot be built
                subject = subjects_of(part)[0]
                if part.slot.startswith("model."):
                    subject.build()
            if found := changed(before, look()):
                told.append(f"Building {part.slot}={part.name} for the first time changed {found}.")
        os.chdir(os.path.dirname(empty))
    return " ".join(told)


def _forked(parts: tuple[Component, ...]) -> str:
    """`_seen` in a process of its own, where the system can fork."""
    if not hasattr(os, "fork"):
        return _seen(parts)
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            with os.fdopen(writing, "w", encoding="utf-8") as file:
                file.write(f"{_seen(parts)}\n")
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as file:
        told = file.read()
    os.wait()
    return told.rstrip("\n") if told else "Importing it ended the process."


def main() -> None:
    """Answer which changes each module makes, until nobody asks."""
    import numpy  # noqa: F401
    import torch

    import gptkit.model.assemble  # noqa: F401

    torch.set_num_threads(3)  # a number that nobody sets, so that a part that sets one is seen
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what a module prints is no answer
        for question in sys.stdin:
            parts, *place = json.loads(question)
            _enter(*place)
            answers.write(json.dumps(_forked(tuple(map(_read, parts)))) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
