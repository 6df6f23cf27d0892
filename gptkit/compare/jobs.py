"""Run the points of a sweep, each in a process of its own, as many at once as the machine bears.

A job that dies is told with its last lines, and the others go on. A signal is passed on to the jobs,
which save a checkpoint and end; what is missing then can be run later.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

from gptkit.compare.board import Board, make_board
from gptkit.compare.gather import read_sweep
from gptkit.compare.launched import Launched
from gptkit.compare.launcher import Launcher
from gptkit.compare.machine import Share, shares
from gptkit.compare.processes import Starter, starter
from gptkit.compare.stages import Work, work_of
from gptkit.compare.task import Job

FAILED, INTERRUPTED = 3, 130
_POLL_SECONDS = 0.05


def run(
    folder: Path, *, jobs: int | None = None, quiet: bool = False, launcher: Launcher | None = None
) -> int:
    """Run every point of a sweep that is not finished.

    Args:
        folder: the sweep's.
        jobs: how many at once; None fills the machine.
        quiet: tell of failures alone.
        launcher: has the jobs done elsewhere; None does them on this machine.

    Returns:
        0; 3 if some failed; 130 if a signal stopped them, and they can be gone on with.

    Raises:
        RunError: the folder holds no sweep, or another process is running it.
        ConfigError: a point that has no run directory yet can no longer be composed.
        UserError: the sweep needs a library that is not installed.
    """
    work = work_of(folder, *read_sweep(folder))
    if not work.left:
        return FAILED if work.failed else 0
    free = [Share(1)] * (jobs or work.most) if launcher else shares(work.configs(), jobs)
    with (
        Launched(launcher, folder) if launcher else starter(free[0].environment) as processes,
        make_board(work.jobs, len(free), quiet=quiet, later=work.later) as board,
        _Signals() as signals,
    ):
        _run(work, deque(free), processes, board, signals)
    if signals.asked:
        return INTERRUPTED
    return FAILED if work.failed else 0


def _run(work: Work, free: deque[Share], processes: Starter, board: Board, signals: _Signals) -> None:
    """Keep all shares busy until nothing is left to do."""
    running: list[Job] = []
    passed_on = 0
    try:
        while True:
            while free and not signals.asked and (job := work.take()):
                job.start(free.popleft(), processes)
                running.append(job)
                board.started(job)
            processes.flush()
            if not running:
                return
            if signals.count > passed_on:
                passed_on = signals.count
                for job in running:
                    job.send(signals.asked if passed_on == 1 else signal.SIGKILL)
                board.stopping(again=passed_on > 1)
            for job in [job for job in running if job.ended(signals.asked)]:
                running.remove(job)
                free.append(job.share)
                board.ended(job)
                work.ended(job)
            if not signals.asked:
                work.watch(running)
            board.draw()
            if running:
                time.sleep(_POLL_SECONDS)
    except BaseException:
        for job in running:
            job.send(signal.SIGKILL)
        raise


class _Signals:
    """Counts Ctrl-C and SIGTERM; outside the main thread they are someone else's."""

    def __init__(self) -> None:
        self.asked = self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        self.asked = self.asked or number
        self.count += 1
