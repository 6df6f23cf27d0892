"""What the processes of one run settle together, once a step, in one small message."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_GRACE = 0.1  # seconds


@dataclass(frozen=True)
class Ballot:
    """The sum of what all processes said.

    Attributes:
        loss: the sum of losses.
        targets: how many targets that is.
        finite: whether every process saw a finite loss and gradient.
        signal: the signal that asks the run to stop, or 0.
        enough: whether some process wants the run to end, as if its last step were done.
    """

    loss: float
    targets: float
    finite: bool
    signal: int
    enough: bool


class Agreement:
    """Votes on a step, so that all processes stop, or fail, after the same one.

    Args:
        signal: gives the signal that this process received, or 0.
        duplicates: processes that read the same examples; each speaks for its part.
    """

    def __init__(self, signal: Callable[[], int], duplicates: int = 1) -> None:
        self.signal, self.duplicates = signal, duplicates
        self.enough = False
        self._group: torch.distributed.ProcessGroup | None = None

    def connect(self) -> None:
        """Find a channel between the CPUs of all processes; called once the process group stands."""
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        if distributed.get_world_size() > 1:
            everyone = distributed.group.WORLD
            self._group = everyone if distributed.get_backend() == "gloo" else _cpu_group()

    def leave(self) -> None:
        """Part from the other processes; called once nothing else of the training is left.

        Gloo's threads take Python's lock to let go of the tensors of the last message. One that does
        so only while the interpreter ends aborts the process, so they get the lock first, and end with
        their group where nothing else holds it (DTensor's caches do).
        """
        self._group = None
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            everyone = distributed.group.WORLD
            distributed.destroy_process_group()
            time.sleep(_GRACE)
            gc.collect()  # Lightning's trainer and the model in DDP refer to each other
            del everyone

    def vote(self, loss: float = 0.0, targets: float = 0.0, gradient_norm: float = 0.0) -> Ballot:
        """Tell all others, and hear what they said; every process gets the same answer."""
        finite = math.isfinite(loss) and math.isfinite(gradient_norm)
        said = [
            loss / self.duplicates if math.isfinite(loss) else 0.0,
            targets / self.duplicates,
            float(not finite),
            float(self.signal()),
            float(self.enough),
        ]
        if self._group is None:
            return Ballot(loss, targets, finite, int(said[3]), self.enough)
        heard = self.total(said)
        largest = self.largest(said[3]) if heard[3] else 0.0
        lost = heard[2] > 0
        return Ballot(math.nan if lost else heard[0], heard[1], not lost, int(largest), heard[4] > 0)

    def total(self, values: list[float]) -> list[float]:
        """The sum over all processes, of each of several numbers, in float64."""
        return self._reduce(values, torch.distributed.ReduceOp.SUM)

    def largest(self, value: float) -> float:
        """The largest over all processes."""
        return self._reduce([value], torch.distributed.ReduceOp.MAX)[0]

    def _reduce(self, values: list[float], how: torch.distributed.ReduceOp.RedOpType) -> list[float]:
        if self._group is None:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(tensor, how, group=self._group)
        return tensor.tolist()


def _cpu_group() -> torch.distributed.ProcessGroup:
    """All processes again, over the network: NCCL moves nothing between CPUs."""
    group = torch.distributed.new_group(backend="gloo")
    assert isinstance(group, torch.distributed.ProcessGroup)  # a number is what outsiders get
    return group
