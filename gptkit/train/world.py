"""Which process this is, of how many. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_LAUNCHERS = (
    ("torchrun", "TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""),
)


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Attributes:
        rank: this process's number, from 0.
        size: how many there are.
        local_rank: its number on this machine.
        local_size: how many are on this machine.
        launcher: what started them: `torchrun`, `srun`, or nothing for a process by itself.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launcher: str = ""

    @property
    def nodes(self) -> int:
        return max(1, self.size // self.local_size)

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's files and speaks to the user."""
        return self.rank == 0

    @classmethod
    def of(cls, environment: Mapping[str, str] | None = None) -> World:
        """Read from the environment variables that torchrun or srun set."""
        given = os.environ if environment is None else environment
        for launcher, mark, rank, size, local_rank, local_size in _LAUNCHERS:
            if mark in given and rank in given and int(given.get(size, 1)) > 1:
                total = int(given[size])
                here = int(given.get(local_size, 0)) or _tasks_here(given, total)
                return cls(int(given[rank]), total, int(given.get(local_rank, 0)), here, launcher)
        return cls()


def _tasks_here(given: Mapping[str, str], total: int) -> int:
    """Processes on this machine, from SLURM's list, such as `4(x2),3`; even shares are assumed."""
    nodes = int(given.get("SLURM_STEP_NUM_NODES", given.get("SLURM_NNODES", 1)))
    return max(1, total // nodes)
