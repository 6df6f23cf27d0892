"""`torch.distributed.run` without its noise: `python -m gptkit.train.agent ARGUMENTS OF TORCHRUN`.

It starts the workers, watches them, and ends the others when one dies. What went wrong is told by
the workers to the process that launched this one; this one only adds how a worker died.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
from pathlib import Path

from gptkit.train.launch import AGENT, DESK

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def main(arguments: list[str]) -> int:
    """Run the workers to their end; returns 0, or 1 if one failed."""
    end_with_parent()
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.ERROR)
    try:
        run.main(arguments)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        _report(rank, failure.exitcode)
        return 1
    except SignalException:
        return 1
    return 0


def end_with_parent() -> None:
    """Where the system can tell (Linux), stop as on SIGTERM when the launching process dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _report(rank: int, exit_code: int) -> None:
    desk = os.environ.get(DESK)
    if desk:
        (Path(desk) / AGENT).write_text(json.dumps({"rank": rank, "exit_code": exit_code}), "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
