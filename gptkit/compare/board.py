"""How far a sweep is: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gptkit.numbers import counted
from gptkit.train.terminal import duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from gptkit.compare.task import Job

_REDRAW_SECONDS = 0.5
_STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "finished": "green",
    "failed": "red",
    "stopped": "yellow",
    "pruned": "magenta",
}


def make_board(jobs: Sequence[Job], at_once: int, *, quiet: bool, later: Callable[[], int] = int) -> Board:
    """The board that fits where standard error goes; it shows the jobs of a list that may grow."""
    from gptkit.train.console import LastingConsole

    console = LastingConsole(stderr=True, highlight=False)
    live = console.is_terminal and not (console.is_dumb_terminal or console.legacy_windows or quiet)
    return (_Table if live else Board)(jobs, at_once, console, quiet=quiet, later=later)


class Board:
    """Tells in lines what happens.

    Args:
        jobs: all of the sweep, finished ones among them.
        at_once: how many run at the same time.
        console: where to.
        quiet: tell of failures alone.
        later: how many jobs are still to be added.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        at_once: int,
        console: Console,
        *,
        quiet: bool = False,
        later: Callable[[], int] = int,
    ) -> None:
        self.jobs, self.at_once, self.console = jobs, at_once, console
        self.quiet, self.later = quiet, later
        self._began = time.monotonic()

    def __enter__(self) -> Board:
        done = sum(job.state in ("finished", "pruned") for job in self.jobs)
        self.say(
            f"{counted(len(self.jobs) + self.later(), 'job')}, {done} done before, {self.at_once} at once"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.draw()

    def say(self, text: str, *, failure: bool = False) -> None:
        """Show a line."""
        if failure or not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True, style="red" if failure else None)

    def started(self, job: Job) -> None:
        """A job began."""
        again = f", from step {job.row['step']}" if job.row else ""
        self.say(f"{self._count(job)} {job.name}: started{again}")

    def ended(self, job: Job) -> None:
        """A job ended."""
        if job.state == "failed":
            self.say(
                f"{self._count(job)} {job.name}: failed, {job.run.path}\n{_indented(job.told)}", failure=True
            )
        else:
            loss = f", validation loss {job.row['val_loss']:.4f}" if "val_loss" in job.row else ""
            took = duration(job.seconds)
            self.say(f"{self._count(job)} {job.name}: {job.state}{loss}, {took}{self._left()}")

    def stopping(self, *, again: bool) -> None:
        """A signal came."""
        self.say("Ending the jobs at once." if again else "Stopping: each job saves a checkpoint.")

    def draw(self) -> None:
        """Show how far all are, if it is time."""

    def seconds_left(self) -> float | None:
        """Until all is done, going by those that are; None before any is."""
        took = [job.seconds for job in self.jobs if job.state == "finished" and job.seconds]
        if not took:
            paces = [pace for job in self.jobs if job.state == "running" and (pace := _whole(job))]
            took = paces
        if not took:
            return None
        each = sum(took) / len(took)
        left = each * (self.later() + sum(job.state == "waiting" for job in self.jobs))
        left += sum(max(0.0, each * (1 - _share(job))) for job in self.jobs if job.state == "running")
        return left / self.at_once

    def _left(self) -> str:
        left = self.seconds_left()
        return f", {duration(left)} left" if left else ""

    def _count(self, job: Job) -> str:
        every = job.of or len(self.jobs)
        kind = "" if job.point.trial is None else "trial "
        return f"{kind}[{job.point.number + 1:>{len(str(every))}}/{every}]"


class _Table(Board):
    """Draws a table of the jobs in place, at most twice a second."""

    def __enter__(self) -> Board:
        from rich.live import Live

        self._next = 0.0
        self._live = Live(console=self.console, auto_refresh=False, get_renderable=self._picture)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.refresh()
        self._live.stop()

    def started(self, job: Job) -> None:
        self._next = 0.0

    def ended(self, job: Job) -> None:
        if job.state == "failed":
            super().ended(job)
        self._next = 0.0

    def draw(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _REDRAW_SECONDS
        for job in self.jobs:
            if job.state == "running":
                job.read()
        self._live.refresh()

    def _picture(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), caption_justify="left")
        table.add_column("variant", overflow="ellipsis", no_wrap=True)
        for name in ("seed", "step", "loss", "val loss", "left"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for job in self._chosen():
            measuring = job.state == "running" and job.row.get("step", 0) >= job.total
            state = Text("measuring" if measuring else job.state, _STYLES[job.state])
            table.add_row(*_cells(job), state, style="" if job.row else "dim")
        counts = [f"{n} {state}" for state in _STYLES if (n := sum(j.state == state for j in self.jobs))]
        counts += [f"{self.later()} to come"] if self.later() else []
        table.caption = (
            f"{', '.join(counts)}; {duration(time.monotonic() - self._began)} so far{self._left()}"
        )
        return table

    def _chosen(self) -> list[Job]:
        """As many as there is room for: those that run or failed first, then the newest done, then those to come."""
        room = max(3, self.console.height - 5)
        order = {"running": 0, "failed": 1, "stopped": 1, "finished": 2, "pruned": 2, "waiting": 3}
        ranked = sorted(
            self.jobs,
            key=lambda j: (order[j.state], -j.point.number if j.state == "finished" else j.point.number),
        )
        return sorted(ranked[:room], key=lambda job: (job.point.trial is None, job.point.number))


def _cells(job: Job) -> list[str]:
    row = job.row
    left = _whole(job) * (1 - _share(job)) if job.state == "running" else 0.0
    return [
        job.point.label if job.point.trial is None else job.point.tried,
        str(job.point.seed),
        f"{row.get('step', 0):,}/{job.total:,}",
        f"{row['loss']:.3f}" if "loss" in row else "",
        f"{row['val_loss']:.3f}" if "val_loss" in row else "",
        duration(left) if left else "",
    ]


def _share(job: Job) -> float:
    """The part of a job's steps that is done."""
    return min(1.0, job.row.get("step", 0) / job.total) if job.total else 1.0


def _whole(job: Job) -> float:
    """The seconds that all of a job's steps will take, by its pace so far; 0 before its first row."""
    return job.row.get("seconds", 0.0) / _share(job) if _share(job) else 0.0


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
