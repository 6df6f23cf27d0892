"""One job of a sweep, in a process of its own: `python -m gptkit.compare.job RUN_DIR LENGTHS`.

It trains the run, or goes on with it, and then measures it, unless there are no lengths. What it prints is
the job's log.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gptkit import files
from gptkit.compare.results import MEASURES, THREADS
from gptkit.errors import GptkitError
from gptkit.train.agent import end_with_parent

if TYPE_CHECKING:
    from gptkit.run import Run


def main(arguments: Sequence[str]) -> int:
    """Train and measure the run whose folder is given.

    Returns:
        0 when both are done; 130 or 143 where a signal came first; an error's own code otherwise.
    """
    end_with_parent()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        return job(Path(arguments[0]), [float(factor) for factor in arguments[1].split(",") if factor])
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if isinstance(error, GptkitError) and not os.environ.get("GPTKIT_DEBUG"):
            print(error, file=sys.stderr)
        else:
            traceback.print_exception(error)
        return error.exit_code if isinstance(error, GptkitError) else 1


def job(folder: Path, lengths: Sequence[float]) -> int:
    """Do what is still missing of a run; returns the exit code.

    Raises:
        GptkitError: it cannot be trained or measured.
    """
    from gptkit.run import Run
    from gptkit.train.launch import launch

    run = Run(folder)
    _note_threads(run)
    code = 0 if run.status == "finished" else launch(run, quiet=True)
    if code == 0 and lengths and not (folder / MEASURES).is_file():
        from gptkit.compare import measure

        measure.write(run, lengths)
    return code


def _note_threads(run: Run) -> None:
    """Keep how many threads this start has: with other threads a job is quicker or slower than its neighbours."""
    import torch

    from gptkit.train import strategies

    config = run.config()
    if strategies.accelerator(config) == "cpu":
        told = run.read_json(THREADS, default={}).get("each_start", [])
        each = [*told, config["trainer"]["threads"] or torch.get_num_threads()]
        files.write_json(run.path / THREADS, {"each_start": each})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
