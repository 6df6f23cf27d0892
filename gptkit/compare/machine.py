"""What a machine bears: how many jobs at once, and which cores and GPUs are each one's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gptkit.train import strategies


@dataclass(frozen=True)
class Share:
    """What one of several jobs may use.

    Attributes:
        threads: CPU threads.
        gpus: numbers or names for `CUDA_VISIBLE_DEVICES`; None where none is used.
    """

    threads: int
    gpus: tuple[str, ...] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that hold a process to it."""
        told = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return told if self.gpus is None else {**told, "CUDA_VISIBLE_DEVICES": ",".join(self.gpus)}


def shares(configs: Sequence[Mapping[str, Any]], jobs: int | None) -> list[Share]:
    """One share for each job that runs at the same time.

    On CPUs all cores are used and no more: with `jobs: None` each job has `trainer.threads` of them, or
    one. On GPUs each job has `devices` of them, one where that is `auto`.

    Args:
        configs: of the jobs that are to be run.
        jobs: how many at once; None fills the machine.
    """
    cores = strategies.share_of_cores(1)
    threads = max((config["trainer"]["threads"] or 1 for config in configs), default=1)
    if any(strategies.accelerator(config) == "cuda" for config in configs):
        each = max(1 if config["devices"] == "auto" else config["devices"] for config in configs)
        gpus = _gpus()
        groups = [tuple(gpus[i : i + each]) for i in range(0, len(gpus) - each + 1, each)]
        count = min(jobs or len(groups), len(configs))
        return [Share(max(1, cores // count), groups[i % len(groups)]) for i in range(count)]
    count = min(jobs or max(1, cores // threads), len(configs))
    return [Share(max(1, cores // count))] * count


def _gpus() -> list[str]:
    """The CUDA devices that this process may use, as `CUDA_VISIBLE_DEVICES` would name them."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named or [str(number) for number in range(strategies.cuda_devices())]
