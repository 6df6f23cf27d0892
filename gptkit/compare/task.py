"""A point of a sweep at work: its run directory, and the process that trains it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from gptkit import files
from gptkit import run as runs
from gptkit.compare.gather import last_lines
from gptkit.compare.machine import Share
from gptkit.compare.processes import Process, Starter
from gptkit.compare.results import LOG, MEASURES, PRUNED, Point


class Job:
    """A point, its run directory, and the process that trains it.

    Args:
        point: which one.
        run: where it is kept.
        factors: of the context, at which to measure afterwards; a trial is not measured.
        of: how many jobs of its kind the sweep has.

    Attributes:
        state: `waiting`, `running`, `finished`, `failed`, `stopped` or `pruned`.
        told: the last lines of its log, once it failed.
        losses: its validation losses by step.
    """

    def __init__(self, point: Point, run: runs.Run, factors: Sequence[float], of: int = 0) -> None:
        self.point, self.run, self.factors, self.of = point, run, factors, of
        self.config = run.config()
        self.total: int = self.config["trainer"]["max_steps"]
        self.state = "waiting"
        self.told = ""
        self.seconds = 0.0
        self.row: dict[str, Any] = {}
        self.losses: dict[int, float] = {}
        self._offset = 0
        self._process: Process | None = None

    @property
    def name(self) -> str:
        return self.point.name

    @property
    def done(self) -> bool:
        """Whether it was trained, and measured if it is to be."""
        measured = not self.factors or (self.run.path / MEASURES).is_file()
        return measured and self.run.status == "finished"

    @property
    def pruned(self) -> bool:
        """Whether it was ended early, since others do better."""
        return (self.run.path / PRUNED).is_file()

    def start(self, share: Share, starter: Starter) -> None:
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
        ended = "pruned" if self.pruned else "stopped" if asked else "failed"
        whole = code == 0 or self.pruned  # the signal may have come after the last step
        self.state = "finished" if whole and self.done else ended
        if self.state == "failed":
            lines = last_lines(self.run.path / LOG)
            if code < 0:  # nobody else can tell, and the report reads the log
                how = f"It was killed by {signal.Signals(-code).name}."
                with contextlib.suppress(OSError), (self.run.path / LOG).open("a", encoding="utf-8") as log:
                    log.write(f"{how}\n")
            else:
                how = f"It ended with exit code {code}."
            self.told = "\n".join([how, *lines])
        return True

    def send(self, number: int) -> None:
        """Pass a signal on; SIGKILL goes to all that it started."""
        assert self._process is not None
        self._process.send(number)

    def prune(self) -> None:
        """Have it save a checkpoint and end.

        Raises:
            OSError: the disk refuses.
        """
        files.write_json(self.run.path / PRUNED, {"losses": {str(k): v for k, v in self.losses.items()}})
        self.send(signal.SIGTERM)

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
                row = decode(line) or {}
                self.row.update(row)
                if "val_loss" in row:
                    self.losses[int(row["step"])] = float(row["val_loss"])
