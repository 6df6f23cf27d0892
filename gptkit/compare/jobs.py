"""Run the points of a sweep, each in a process of its own, as many at once as the machine bears.

A job that dies is told with its last lines, and the others go on. A signal is passed on to the jobs,
which save a checkpoint and end; what is missing then can be run later.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptkit import run as runs
from gptkit.compare.asked import LENGTHS
from gptkit.compare.board import Board, make_board
from gptkit.compare.gather import last_lines, read_sweep
from gptkit.compare.machine import Share, shares
from gptkit.compare.plan import create_job
from gptkit.compare.processes import Nursery, Process, Scratch, starter
from gptkit.compare.results import LOG, MEASURES, Point
from gptkit.errors import RunError

FAILED, INTERRUPTED = 3, 130
_POLL_SECONDS = 0.05


class Job:
    """A point, its run directory, and the process that trains it.

    Args:
        point: which one.
        run: where it is kept.
        factors: of the context, at which to measure afterwards.

    Attributes:
        state: `waiting`, `running`, `finished`, `failed` or `stopped`.
        told: the last lines of its log, once it failed.
    """

    def __init__(self, point: Point, run: runs.Run, factors: Sequence[float]) -> None:
        self.point, self.run, self.factors = point, run, factors
        self.config = run.config()
        self.total: int = self.config["trainer"]["max_steps"]
        self.state = "waiting"
        self.told = ""
        self.seconds = 0.0
        self.row: dict[str, Any] = {}
        self._offset = 0
        self._process: Process | None = None

    @property
    def name(self) -> str:
        return f"{self.point.label}, seed {self.point.seed}"

    @property
    def done(self) -> bool:
        """Whether it was trained and measured."""
        return self.run.status == "finished" and (self.run.path / MEASURES).is_file()

    def start(self, share: Share, starter: Scratch | Nursery) -> None:
        """Begin, or go on from the newest checkpoint."""
        self.share, self.state, self._began = share, "running", time.monotonic()
        arguments = [str(self.run.path.resolve()), ",".join(map(str, self.factors))]
        self._process = starter.start(arguments, share.environment, self.run.path / LOG)

    def ended(self, asked: int) -> bool:
        """Whether its process has ended; notes how.

        Args:
            asked: the signal that all jobs were sent, or 0.
        """
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return False
        self.read()
        self.seconds = time.monotonic() - self._began
        self.state = "finished" if code == 0 and self.done else "stopped" if asked else "failed"
        if self.state == "failed":
            how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
            self.told = "\n".join([f"It ended with {how}.", *last_lines(self.run.path / LOG)])
        return True

    def send(self, number: int) -> None:
        """Pass a signal on; SIGKILL goes to all that it started."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                os.kill(self._process.pid, number)

    def read(self) -> None:
        """Take up what was added to its metrics since."""
        from gptkit.train.metrics import decode

        with contextlib.suppress(OSError), (self.run.path / "metrics.jsonl").open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._offset:
                self._offset = 0  # cut back to a checkpoint
            file.seek(self._offset)
            whole, end, _ = file.read().rpartition(b"\n")
            self._offset += len(whole) + len(end)
            for line in whole.splitlines():
                self.row.update(decode(line) or {})


def run(folder: Path, *, jobs: int | None = None, quiet: bool = False) -> int:
    """Run every point of a sweep that is not finished.

    Args:
        folder: the sweep's.
        jobs: how many at once; None fills the machine.
        quiet: tell of failures alone.

    Returns:
        0; 3 if some failed; 130 if a signal stopped them, and they can be gone on with.

    Raises:
        RunError: the folder holds no sweep, or another process is running it.
        ConfigError: a point that has no run directory yet can no longer be composed.
    """
    sweep, points = read_sweep(folder)
    factors = [float(factor) for factor in sweep.get("lengths") or LENGTHS]
    every = [Job(point, create_job(folder, point), factors) for point in points]
    for job in every:
        if job.run.status == "running":
            raise RunError(f"{job.run.path} is being trained by another process. Wait until it ends.")
        job.state = "finished" if job.done else "waiting"
        job.read()
    left = [job for job in every if job.state == "waiting"]
    if not left:
        return 0
    free = shares([job.config for job in left], jobs)
    with (
        starter(free[0].environment) as processes,
        make_board(every, len(free), quiet=quiet) as board,
        _Signals() as signals,
    ):
        _work(deque(left), deque(free), processes, board, signals)
    if signals.asked:
        return INTERRUPTED
    return FAILED if any(job.state == "failed" for job in left) else 0


def _work(
    waiting: deque[Job], free: deque[Share], processes: Scratch | Nursery, board: Board, signals: _Signals
) -> None:
    """Keep all shares busy until nothing is left to do."""
    running: list[Job] = []
    passed_on = 0
    try:
        while running or (waiting and not signals.asked):
            while waiting and free and not signals.asked:
                job = waiting.popleft()
                job.start(free.popleft(), processes)
                running.append(job)
                board.started(job)
            if signals.count > passed_on:
                passed_on = signals.count
                for job in running:
                    job.send(signals.asked if passed_on == 1 else signal.SIGKILL)
                board.stopping(again=passed_on > 1)
            for job in [job for job in running if job.ended(signals.asked)]:
                running.remove(job)
                free.append(job.share)
                board.ended(job)
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
