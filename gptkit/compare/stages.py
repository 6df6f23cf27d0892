"""Which job comes next: every point of a sweep, or first trials and then the points that they settle."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from gptkit import files
from gptkit import run as runs
from gptkit.compare.asked import LENGTHS
from gptkit.compare.grid import composed
from gptkit.compare.plan import create_job, place_of
from gptkit.compare.results import TUNED, Point
from gptkit.compare.search import search
from gptkit.compare.spaces import Tuning, Values
from gptkit.compare.task import Job
from gptkit.compare.trials import read_tuned, settled, trials_of, tuning_of
from gptkit.errors import RunError

_WATCH_SECONDS = 0.5


class Work(Protocol):
    """What is to be done.

    Attributes:
        jobs: all that are known; more may be added.
    """

    jobs: list[Job]

    @property
    def left(self) -> bool:
        """Whether anything can be done now."""
        ...

    @property
    def failed(self) -> bool:
        """Whether a run that is to be reported failed, or cannot be made."""
        ...

    @property
    def most(self) -> int:
        """How many jobs may well go at once, where there is room for any number."""
        ...

    def configs(self) -> list[Mapping[str, Any]]:
        """One for each job that is left, to know what it needs of the machine."""
        ...

    def later(self) -> int:
        """How many jobs are still to be added."""
        ...

    def take(self) -> Job | None:
        """The next one that can start; None while there is none."""
        ...

    def ended(self, job: Job) -> None:
        """A job has ended."""
        ...

    def watch(self, running: Sequence[Job]) -> None:
        """End jobs that are not worth their time."""
        ...


def work_of(folder: Path, sweep: Mapping[str, Any], points: Sequence[Point]) -> Work:
    """What is left to do of a sweep.

    Args:
        folder: the sweep's.
        sweep: what `sweep.json` holds.
        points: those that are reported.

    Raises:
        RunError: another process works on it, or its folder cannot be used.
        ConfigError: a point can no longer be composed.
        UserError: a library is missing.
    """
    tuning = tuning_of(sweep)
    asked = sweep.get("lengths")
    factors = [float(factor) for factor in (LENGTHS if asked is None else asked)]
    if tuning is None:
        return Points(folder, points, factors)
    return Tuned(folder, points, factors, tuning, trials_of(folder, sweep, points))


class Points:
    """Every point of a sweep."""

    def __init__(self, folder: Path, points: Sequence[Point], factors: Sequence[float]) -> None:
        self.jobs = [open_job(folder, point, factors, len(points)) for point in points]
        self._waiting = deque(job for job in self.jobs if job.state == "waiting")

    @property
    def left(self) -> bool:
        return bool(self._waiting)

    @property
    def failed(self) -> bool:
        return any(job.state == "failed" for job in self.jobs)

    @property
    def most(self) -> int:
        return len(self._waiting)

    def configs(self) -> list[Mapping[str, Any]]:
        return [job.config for job in self._waiting]

    def later(self) -> int:
        return 0

    def take(self) -> Job | None:
        return self._waiting.popleft() if self._waiting else None

    def ended(self, job: Job) -> None:
        pass

    def watch(self, running: Sequence[Job]) -> None:
        pass


class Tuned:
    """Trials of every variant; once those of one have ended, its points with the values of the best.

    What was chosen is written into `tuned.json` and stands from then on: trials that failed are run again
    only where nothing was chosen yet.
    """

    def __init__(
        self,
        folder: Path,
        points: Sequence[Point],
        factors: Sequence[float],
        tuning: Tuning,
        trials: Sequence[Point],
    ) -> None:
        self.folder, self.points, self.factors, self.tuning = folder, points, factors, tuning
        self.labels = list(dict.fromkeys(point.label for point in points))
        self.tuned: dict[str, Values] = read_tuned(folder)
        self._every = len(trials)
        self._ready: list[Job] = []  # jobs of points
        self._next: deque[Point] = deque()  # trials that have not ended
        self._losses: dict[str, dict[int, list[float | None]]] = {label: {} for label in self.labels}
        self._looked = 0.0
        self._bases = {label: self._config(label) for label in self.labels}
        self.search = search(tuning, folder, max(b["trainer"]["max_steps"] for b in self._bases.values()))
        self.jobs: list[Job] = []
        for point in trials:
            self._take_up(point)
        for label in self.labels:
            if label in self.tuned:
                self._settle(label)
            else:
                self._choose(label)

    @property
    def left(self) -> bool:
        return bool(self._next or self._ready)

    @property
    def failed(self) -> bool:
        """A failed trial is no failed run: it is what a range that reaches too far brings."""
        reported = [job for job in self.jobs if job.point.trial is None]
        return any(job.state == "failed" for job in reported) or not {*self.labels} <= {*self.tuned}

    @property
    def most(self) -> int:
        """All that is left; but Optuna learns from the trials that have ended, so each variant has two."""
        return 2 * len(self.labels) if self.tuning.sweeper == "optuna" else len(self._next) + len(self.points)

    def configs(self) -> list[Mapping[str, Any]]:
        return [self._bases[point.label] for point in self._next] + [job.config for job in self._ready]

    def later(self) -> int:
        begun = {job.point.number for job in self.jobs if job.point.trial is not None}
        trials = sum(point.number not in begun for point in self._next)
        return trials + sum(point.label not in self.tuned for point in self.points)

    def take(self) -> Job | None:
        if not self._next:
            if not self._ready:
                return None
            job = min(self._ready, key=lambda job: job.point.number)
            self._ready.remove(job)
            return job
        point = self._next.popleft()
        known = next((job for job in self.jobs if job.point == point), None)
        if known:
            return known
        assert point.trial is not None
        values = point.tuned or self.search.propose(point.label, point.trial)
        job = open_job(self.folder, settled(point, values), (), self._every)
        self.jobs.append(job)
        return job

    def ended(self, job: Job) -> None:
        if job.point.trial is not None and job.state != "stopped":
            self._tell(job)
            self._choose(job.point.label)

    def watch(self, running: Sequence[Job]) -> None:
        if time.monotonic() < self._looked + _WATCH_SECONDS:
            return
        self._looked = time.monotonic()
        for job in running:
            if job.point.trial is None or job.pruned:
                continue
            job.read()
            if self.search.hopeless(job.point.label, job.point.trial, job.losses):
                job.prune()

    def _config(self, label: str) -> Mapping[str, Any]:
        point = next(point for point in self.points if point.label == label)
        return composed(list(settled(point, self.tuning.checked[0]).overrides))

    def _take_up(self, point: Point) -> None:
        """A trial as an earlier process left it."""
        job = None
        if point.tuned and (place_of(self.folder, point) / runs.CONFIG).is_file():
            job = open_job(self.folder, point, (), self._every)
            self.jobs.append(job)
        if job and job.pruned and job.state != "finished":
            job.state = "pruned"
        if job and job.state in ("finished", "pruned"):
            self._tell(job)
        elif point.label not in self.tuned:
            self._next.append(point)
        elif job:
            job.state = "failed"  # and stays so: the choice was made without it

    def _tell(self, job: Job) -> None:
        """Keep what a trial came to."""
        point = job.point
        assert point.trial is not None
        loss = self._loss(job) if job.state == "finished" else None
        self._losses[point.label].setdefault(point.trial, []).append(loss)
        self.search.tell(point.label, point.trial, loss, pruned=job.state == "pruned")

    def _loss(self, job: Job) -> float | None:
        told = (job.run.result() or {}).get(self.tuning.metric)
        return float(told) if isinstance(told, (int, float)) and math.isfinite(told) else None

    def _choose(self, label: str) -> None:
        """Settle a variant's points, once all its trials have ended and one has a loss."""
        trials = self._losses[label]
        if sum(map(len, trials.values())) < self.tuning.trials * len(self.tuning.seeds):
            return
        means = {n: sum(held) / len(held) for n, losses in trials.items() if (held := _all(losses))}
        if not means:
            return
        best = min(means, key=lambda trial: (means[trial], trial))
        done = next(job for job in self.jobs if (job.point.label, job.point.trial) == (label, best))
        self.tuned[label] = dict(done.point.tuned)
        try:
            files.write_json(self.folder / TUNED, self.tuned)
        except OSError as error:
            raise RunError(f"{self.folder / TUNED} cannot be written: {files.cause(error)}.") from error
        self._settle(label)

    def _settle(self, label: str) -> None:
        for point in self.points:
            if point.label == label:
                made = settled(point, self.tuned[label])
                job = open_job(self.folder, made, self.factors, len(self.points))
                self.jobs.append(job)
                if job.state == "waiting":
                    self._ready.append(job)


def open_job(folder: Path, point: Point, factors: Sequence[float], of: int) -> Job:
    """A point's job as it stands, its run directory made if it is not there.

    Raises:
        RunError: another process trains it, or the disk refuses.
        ConfigError: its words no longer make a config.
    """
    job = Job(point, create_job(folder, point), factors, of)
    if job.run.status == "running":
        raise RunError(f"{job.run.path} is being trained by another process. Wait until it ends.")
    job.state = "finished" if job.done else "waiting"
    job.read()
    return job


def _all(losses: Sequence[float | None]) -> list[float]:
    """The losses, if each is a number; else none of them."""
    held = [loss for loss in losses if loss is not None]
    return held if len(held) == len(losses) else []
