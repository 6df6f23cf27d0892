"""`gptkit doctor`: whether this machine can do what gptkit asks of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gptkit.cli.arguments import flags_alone
from gptkit.cli.paper import Paper
from gptkit.errors import GptkitError

SUMMARY = "check this machine: versions, devices, plugins, caches"
USAGE = """\
gptkit doctor [--json]

Says what is there and what is missing; exits with 1 if something is broken
that gptkit needs.
"""
_LEAST_ROOM = 0.5  # GiB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        ok: whether it is as it should be; None where it is only worth knowing.
        found: what is there, or what to do.
    """

    what: str
    ok: bool | None
    found: str


def run(args: list[str]) -> int:
    """Print what was found; returns 1 if something that is needed is missing.

    Raises:
        UserError: there are words that it does not take.
    """
    flags = flags_alone("doctor", args, ["--json"])
    findings = [finding for check in CHECKS for finding in _made(check)]
    if "--json" in flags:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        paper = Paper()
        for finding in findings:
            sign, style = {True: ("ok", "green"), False: ("fails", "red"), None: ("note", "dim")}[finding.ok]
            lead = (f"{sign:<5}", style), (f"  {finding.what}: ", "bold")
            paper.hanging(*lead, text=finding.found, indent=9)
    return int(any(finding.ok is False for finding in findings))


def _made(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; one that fails itself is a finding as well."""
    try:
        yield from check()
    except Exception as error:
        yield Finding(check.__name__, False, f"{type(error).__name__}: {' '.join(str(error).split())}")


def python() -> Iterator[Finding]:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 10) <= sys.version_info[:2] < (3, 14)
    yield Finding("Python", fits, version if fits else f"{version}; 3.10 to 3.13 are supported")


def packages() -> Iterator[Finding]:
    """What gptkit asks for, in the versions it asks for."""
    from packaging.requirements import Requirement

    try:
        wanted = importlib.metadata.requires("gptkit") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("gptkit", None, "not installed as a package, so its versions cannot be compared")
        return
    for line in wanted:
        requirement = Requirement(line)
        extra = line.partition("extra ==")[2].strip(" '\"")
        if extra in {"dev", "bench"} or not _applies(requirement, extra):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            install = f"gptkit[{extra}]" if extra else f"{requirement.name}{requirement.specifier}"
            use = f" for {extra}" if extra else ""
            yield Finding(
                requirement.name, None if extra else False, f"missing{use}: pip install '{install}'"
            )
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        told = version if fits else f"{version}, but gptkit needs {requirement.specifier}"
        yield Finding(requirement.name, fits, told)


def _applies(requirement: object, extra: str) -> bool:
    marker = getattr(requirement, "marker", None)
    return marker is None or marker.evaluate({"extra": extra})


def devices() -> Iterator[Finding]:
    """Where a model can be trained."""
    import torch

    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    asked = os.environ.get("OMP_NUM_THREADS")
    told = f"{threads}{f' (OMP_NUM_THREADS={asked})' if asked else ''}, {torch.backends.cpu.get_cpu_capability()}"
    yield Finding("CPU", True, told)
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        yield Finding(f"CUDA {index}", True, f"{torch.cuda.get_device_name(index)}, {memory:.0f} GiB")
    if not torch.cuda.is_available():
        yield Finding("CUDA", None, "none; accelerator=auto takes the CPU")


def processes() -> Iterator[Finding]:
    """Whether several processes can speak to one another: gloo, which needs this machine's name and network."""
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_gloo_available():
        yield Finding("several processes", False, "this torch has no gloo; devices=2 on a CPU cannot train")
        return
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        dist.destroy_process_group()
    backends = ["gloo", *(["nccl"] if dist.is_nccl_available() else [])]
    yield Finding("several processes", True, ", ".join(backends))


def configs() -> Iterator[Finding]:
    """Where YAML lies, and whether the default config can be composed."""
    from gptkit.compose import compose, conf_dir

    yield Finding("YAML", True, str(conf_dir()))
    if (Path.cwd() / "conf").is_dir() and (Path.cwd() / "conf").resolve() != conf_dir():
        yield Finding("your YAML", None, str(Path.cwd() / "conf"))
    try:
        compose()
    except GptkitError as error:
        yield Finding("default config", False, str(error))
    else:
        yield Finding("default config", True, "can be built")


def plugins() -> Iterator[Finding]:
    """Whether every plugin that is there can be read."""
    from gptkit.cli.plugins import found

    for plugin in found():
        told = "; ".join(plugin.errors) or ", ".join(plugin.parts) or "YAML alone"
        yield Finding(f"plugin {plugin.name}", not plugin.errors, told)


def accounts() -> Iterator[Finding]:
    """Where runs are sent."""
    from gptkit.train.loggers.wandb_account import base_url, has_key

    where = (
        f"runs are sent to {base_url()}" if has_key() else "no key: runs are kept offline in their folders"
    )
    yield Finding("wandb", None, where)


def ranks() -> Iterator[Finding]:
    """Which tables of ranks are at hand; the others are downloaded when they are asked for."""
    places = (os.environ.get(name) for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"))
    cache = Path(next(filter(None, places), Path(tempfile.gettempdir()) / "data-gym-cache"))
    host = "https://openaipublic.blob.core.windows.net/encodings"
    names = ("p50k_base", "cl100k_base", "o200k_base")
    held = [n for n in names if (cache / hashlib.sha1(f"{host}/{n}.tiktoken".encode()).hexdigest()).is_file()]
    yield Finding(
        "tiktoken's cache", None, f"{cache}: {', '.join(held) or 'empty'} (tokenizer=gpt2 needs none)"
    )


def disk() -> Iterator[Finding]:
    """Room for runs and caches."""
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 2**30
    told = f"{free:.1f} GiB free" + ("" if os.access(here, os.W_OK) else ", but it may not be written to")
    yield Finding("this folder", os.access(here, os.W_OK) and free > _LEAST_ROOM, told)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python, packages, devices, processes, configs, plugins, accounts, ranks, disk,
)  # fmt: skip
