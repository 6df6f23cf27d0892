"""One of several processes that train a run: `python -m gptkit.train.worker RUN_DIR [-q]`, under torchrun."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from gptkit.errors import GptkitError
from gptkit.train.agent import end_with_parent
from gptkit.train.launch import DESK, announce_birth, report_failure, report_stop
from gptkit.train.signals import exit_code
from gptkit.train.world import World

_TAIL_LINES = 12


def main(arguments: list[str]) -> int:
    """Train the run whose folder is given.

    Returns:
        0 for a finished run; 130 or 143 for a stopped one, unless the launching process was told so
        (torchrun takes any other code for a failure and would end the processes that still save);
        else an error's own code.
    """
    world = World.of()
    folder = Path(arguments[0])
    announce_birth(world)
    if DESK in os.environ:
        end_with_parent()
    if DESK in os.environ and not world.is_first:
        _speak_into(folder / "logs" / f"rank-{world.rank}.log")
    try:
        from gptkit.run import Run
        from gptkit.train.fit import fit

        result = fit(Run(folder), quiet="-q" in arguments[1:])
    except Exception as error:
        tail = "".join(traceback.format_exception(error)).rstrip().splitlines()[-_TAIL_LINES:]
        report_failure(error, "\n".join(tail), world)
        if DESK not in os.environ or not world.is_first:
            _complain(error)
        return error.exit_code if isinstance(error, GptkitError) else 1
    if result["status"] != "stopped":
        return 0
    told = report_stop(result["signal"])
    return 0 if told else exit_code(result["signal"])


def _speak_into(log: Path) -> None:
    """Send this process's output to a file: the terminal belongs to the first one."""
    log.parent.mkdir(exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def _complain(error: Exception) -> None:
    if isinstance(error, GptkitError) and not os.environ.get("GPTKIT_DEBUG"):
        print(error, file=sys.stderr)
    else:
        traceback.print_exception(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
