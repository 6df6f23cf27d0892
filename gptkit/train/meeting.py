"""A board where the processes of a job leave word for one another before they train."""

from __future__ import annotations

import os
from typing import Any

from gptkit.train.world import World

_kept: list[Any] = []  # srun: the first process serves the board, so it must outlive the meeting


def meeting_point(world: World) -> Any:
    """A key-value store that all processes of this job share: `set(key, text)`, `get(key) -> bytes`.

    Under torchrun it is the launcher's own; under srun the first process opens it at the address
    that Lightning will use later.
    """
    from torch.distributed.rendezvous import rendezvous

    if world.launcher == "srun":
        from lightning.fabric.plugins import environments

        job = environments.SLURMEnvironment(auto_requeue=False)  # pyright: ignore[reportPrivateImportUsage]
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = job.main_address, str(job.main_port)
    store, _, _ = next(rendezvous("env://", rank=world.rank, world_size=world.size))
    _kept.append(store)
    return store
