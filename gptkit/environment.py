"""What a run was made with: versions, plugins, git, hardware and threads. Imports no torch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gptkit
from gptkit import registry
from gptkit.errors import GptkitError

_PACKAGES = (
    "torch",
    "lightning",
    "hydra-core",
    "omegaconf",
    "tiktoken",
    "wandb",
    "safetensors",
    "numpy",
)
_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "PYTHONHASHSEED",
    "NVIDIA_TF32_OVERRIDE",
)
_GIT_SECONDS = 5.0


def describe(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that may explain why a run differs from another, as plain data.

    Args:
        config: normalised; its parts are listed with where each comes from.
    """
    return {
        "gptkit": gptkit.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "parts": [_part(slot, name) for _, slot, name in parts_of(config)],
        "git": git(Path.cwd()),
        "hardware": hardware(),
        "threads": threads(config),
    }


def parts_of(config: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each part that a normalised config names, as (key, slot, name)."""
    for slot in registry.SLOTS.values():
        section, _, key = slot.name.partition(".")
        if not key:
            yield from _named(slot, slot.name, config.get(slot.name))
            continue
        model = config.get(section) or {}
        yield from _named(slot, slot.name, model.get(key))
        for where, parts in (model.get("layers") or {}).items():
            yield from _named(slot, f"{section}.layers.{where}.{key}", (parts or {}).get(key))


def _named(slot: registry.Slot, key: str, node: Any) -> Iterator[tuple[str, str, str]]:
    if slot.many:
        for name in node or {}:
            yield f"{key}.{name}", slot.name, name
    elif node and isinstance(node.get("name"), str):
        yield key, slot.name, node["name"]


def _part(slot: str, name: str) -> dict[str, Any]:
    """A part's origin; for a plugin with the sha256 of its source, which may change under one version."""
    told: dict[str, Any] = {"slot": slot, "name": name}
    try:
        component = registry.find(slot, name)
    except GptkitError:
        return told
    origin = component.origin
    if origin.kind == "core":
        return {**told, "kind": "core", "package": "gptkit", "version": gptkit.__version__}
    told |= {"kind": origin.kind, "package": origin.package, "version": origin.version}
    if component.source is not None and component.source.is_file():
        told["source_sha256"] = hashlib.sha256(component.source.read_bytes()).hexdigest()
    return told


def git(folder: Path) -> dict[str, Any] | None:
    """The commit of the repository that holds a folder and whether files differ from it, or None."""
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        told = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if told.returncode != 0:
        return None
    lines = told.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def hardware() -> dict[str, Any]:
    """The machine: processor, cores that this process may use, memory, GPUs."""
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": _cores(),
        "memory_bytes": _memory(),
        "gpus": _gpus(),
    }


def threads(config: Mapping[str, Any]) -> dict[str, Any]:
    """How many threads are asked for, and the variables that change results or speed."""
    torch = sys.modules.get("torch")
    return {
        "asked": (config.get("trainer") or {}).get("threads"),
        "torch": torch.get_num_threads() if torch is not None else None,
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _gpus() -> list[str]:
    """NVIDIA's cards as the driver lists them; no library is loaded for it."""
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    return found
