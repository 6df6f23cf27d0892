"""`gptkit doctor`: whether this machine can do what gptkit asks of it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from gptkit.cli.arguments import split_flags

SUMMARY = "check this machine: versions, devices, plugins, caches"
USAGE = "gptkit doctor [--json]"
_LEAST = {
    "torch": (2, 10),
    "lightning": (2, 6, 6),
    "hydra-core": (1, 3, 8),
    "omegaconf": (2, 3, 1),
    "tiktoken": (0, 12),
}
_NEEDED = (
    "torch",
    "lightning",
    "hydra-core",
    "omegaconf",
    "tiktoken",
    "wandb",
    "safetensors",
    "numpy",
    "rich",
)
_EXTRA = {"tokenizers": "bpe", "pyarrow": "parquet", "tensorboard": "tensorboard"}
Finding = tuple[str, bool | None, str]


def run(args: list[str]) -> int:
    """Print what was found; returns 1 if something that is needed is missing."""
    flags, _ = split_flags(args, ["--json"])
    checks: list[Callable[[], list[Finding]]] = [
        python,
        packages,
        devices,
        processes,
        configs,
        plugins,
        accounts,
        disk,
    ]
    findings = [finding for check in checks for finding in check()]
    if "--json" in flags:
        print(
            json.dumps([{"what": what, "ok": ok, "found": found} for what, ok, found in findings], indent=2)
        )
    else:
        from rich.console import Console
        from rich.markup import escape

        console = Console(highlight=False)
        for what, ok, found in findings:
            sign = {True: "[green]ok[/]   ", False: "[red]fails[/]", None: "[dim]note[/] "}[ok]
            console.print(f"{sign}  {what}: {escape(found)}")
    return int(any(ok is False for _, ok, _ in findings))


def python() -> list[Finding]:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    return [("Python", (3, 10) <= sys.version_info[:2] < (3, 14), f"{version} (3.10 to 3.13 are supported)")]


def packages() -> list[Finding]:
    """What gptkit needs, and what only some parts need."""
    found: list[Finding] = []
    for name in (*_NEEDED, *_EXTRA):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            extra = _EXTRA.get(name)
            found.append(
                (
                    name,
                    None if extra else False,
                    f"missing: pip install {f'gptkit[{extra}]' if extra else name}",
                )
            )
            continue
        least = _LEAST.get(name, (0,))
        numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())
        wanted = ".".join(map(str, least))
        found.append(
            (name, numbers >= least, version if numbers >= least else f"{version}, but {wanted} is needed")
        )
    return found


def devices() -> list[Finding]:
    """Where a model can be trained."""
    import torch

    threads = f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    found: list[Finding] = [("CPU", True, f"{threads}, {torch.backends.cpu.get_cpu_capability()}")]
    for index in range(torch.cuda.device_count()):
        found.append((f"CUDA {index}", True, torch.cuda.get_device_name(index)))
    if not torch.cuda.is_available():
        found.append(("CUDA", None, "none; trainer.accelerator=auto takes the CPU"))
    return found


def processes() -> list[Finding]:
    """Whether several processes can train together."""
    import torch.distributed as dist

    backends = [
        name for name in ("gloo", "nccl") if dist.is_available() and getattr(dist, f"is_{name}_available")()
    ]
    return [("several processes", "gloo" in backends, ", ".join(backends) or "no backend")]


def configs() -> list[Finding]:
    """Whether the default config can be composed."""
    from gptkit.compose import compose
    from gptkit.errors import GptkitError

    try:
        compose([])
    except GptkitError as error:
        return [("default config", False, str(error))]
    return [("default config", True, "composes")]


def plugins() -> list[Finding]:
    """Whether every plugin that is there can be read."""
    from gptkit import registry

    broken = registry.catalogue().broken
    found: list[Finding] = [(f"plugin {place}", False, message) for place, message in broken.items()]
    return found or [("plugins", True, "all can be read")]


def accounts() -> list[Finding]:
    """What is logged where, and which tables of ranks are at hand."""
    key = bool(os.environ.get("WANDB_API_KEY")) or (Path.home() / ".netrc").is_file()
    where = "a key is there: runs are sent" if key else "no key: runs are logged offline, into their folder"
    cache = os.environ.get("TIKTOKEN_CACHE_DIR") or str(Path(tempfile.gettempdir()) / "data-gym-cache")
    held = len(list(Path(cache).iterdir())) if Path(cache).is_dir() else 0
    return [("wandb", None, where), ("tiktoken's cache", None, f"{cache}: {held} files (gpt2 needs none)")]


def disk() -> list[Finding]:
    """Room for runs and caches."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    writable = os.access(Path.cwd(), os.W_OK)
    return [
        (
            "this folder",
            writable and free > 0.5,
            f"{free:.1f} GiB free{'' if writable else ', but not writable'}",
        )
    ]
