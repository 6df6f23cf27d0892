"""Where a run trains: in this process, or in one process a device.

The caller has composed and checked the config and written it into the run's folder; the processes
that train read it there, and see no command line and no clock. Needs no torch until it must.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptkit.errors import GptkitError, RunError, UserError
from gptkit.train import strategies
from gptkit.train.defaults import completed
from gptkit.train.world import World

if TYPE_CHECKING:
    from gptkit.run import Run

DESK = "GPTKIT_LAUNCH_DIR"
READY, STOPPED, AGENT = "ready", "stopped", "agent.json"
_LOG_LINES = 15


class WorkerError(GptkitError):
    """One of the processes that trained together failed; says which, and its last words."""


def launch(run: Run, *, quiet: bool = False) -> int:
    """Train a run to its end, on as many devices as its config asks for.

    Under torchrun or srun this process is one of those that train. Otherwise several devices get a
    process each, and this one waits for them and passes signals on.

    Args:
        run: its folder holds the config.
        quiet: show notices alone.

    Returns:
        The exit code: 0 for a finished run, 130 or 143 for one that a signal stopped after a step
        and that can be resumed.

    Raises:
        ConfigError: the devices that are asked for are not there.
        GptkitError: training failed; `WorkerError` where it was in another process.
    """
    count = devices(run.config())
    return _here(run, quiet) if count == 1 else _Fleet(run, count, quiet).train()


def devices(config: Mapping[str, Any]) -> int:
    """How many processes `launch` will start for a normalised config; 1 trains in this process.

    Raises:
        ConfigError: the devices that are asked for are not there, or the strategy cannot use them.
        RunError: several machines are asked for, and nothing has started this command on each.
    """
    config = completed(config)
    if World.of().size > 1:
        return 1
    if config["nodes"] > 1:
        raise RunError(
            f"nodes={config['nodes']} needs a launcher on each machine. Start the same command with srun, or "
            "with torchrun --nnodes; each process finds the others."
        )
    return strategies.processes(config)


def shared(create: Callable[[], Run], world: World | None = None) -> Run:
    """The one run of all processes: the first creates it, the others are told where it lies.

    A single process just creates it. Under torchrun or srun every process calls this; the config is
    composed and the folder made once.

    Args:
        create: makes or finds the run; called on the first process alone.
        world: this process; read from the environment if left out.

    Raises:
        RunError: the first process could not make the run (it says why itself).
    """
    world = world or World.of()
    if world.size == 1:
        return create()
    from gptkit.run import Run
    from gptkit.train.meeting import meeting_point

    board = meeting_point(world)
    if not world.is_first:
        said = board.get("gptkit/run").decode()
        if not said:
            raise RunError("The first process could not start the run; see what it says.")
        return Run(Path(said))
    try:
        run = create()
    except BaseException:
        board.set("gptkit/run", "")
        raise
    board.set("gptkit/run", str(run.path.resolve()))
    return run


def announce_birth(world: World) -> None:
    """Tell the process that launched this one which process it is."""
    desk = os.environ.get(DESK)
    if desk:
        _write(Path(desk) / f"pid-{world.rank}", str(os.getpid()))


def announce_ready() -> None:
    """Tell the process that launched this one that it listens to signals now."""
    desk = os.environ.get(DESK)
    if desk:
        _write(Path(desk) / READY, str(os.getpid()))


def _here(run: Run, quiet: bool) -> int:
    """Train in this process."""
    from gptkit.train.fit import fit
    from gptkit.train.signals import exit_code

    try:
        result = fit(run, quiet=quiet)
    except KeyboardInterrupt:
        return exit_code(signal.SIGINT)
    return exit_code(result["signal"]) if result["status"] == "stopped" else 0


class _Fleet:
    """The processes of one run on this machine, seen from the one that waits for them.

    They are a session of their own, so a Ctrl-C in the terminal reaches this process alone, which
    tells the first of them; that one agrees with the others on the step to stop after.
    """

    def __init__(self, run: Run, count: int, quiet: bool = False) -> None:
        self.run, self.count, self.quiet = run, count, quiet
        self.asked = 0
        self.told = False

    def train(self) -> int:
        """Start them, wait for them, and make their end this process's."""
        with tempfile.TemporaryDirectory(prefix="gptkit-") as folder, self._handling():
            self.desk = Path(folder)
            self.agent = subprocess.Popen(self._command(), env=self._environment(), start_new_session=True)
            try:
                while self.agent.poll() is None:
                    self._pass_signal_on()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.agent.wait(0.1)
            except BaseException:
                self._kill()
                raise
            return self._verdict()

    def _command(self) -> list[str]:
        here = ["--standalone", f"--nproc-per-node={self.count}"]
        worker = ["-m", "gptkit.train.worker", str(self.run.path.resolve()), *(["-q"] if self.quiet else [])]
        return [sys.executable, "-m", "gptkit.train.agent", *here, *worker]

    def _environment(self) -> dict[str, str]:
        given = dict(os.environ)
        given[DESK] = str(self.desk)
        threads = completed(self.run.config())["trainer"]["threads"] or strategies.share_of_cores(self.count)
        given.setdefault("OMP_NUM_THREADS", str(threads))
        return given

    @contextlib.contextmanager
    def _handling(self) -> Any:
        """Take signals; the loop above passes them on."""

        def handle(number: int, frame: Any) -> None:
            if self.asked == signal.SIGINT == number:
                self._kill()
            self.asked = self.asked or number

        before = {}
        with contextlib.suppress(ValueError):  # not the main thread: signals are someone else's
            before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_signal_on(self) -> None:
        """Tell the first worker once it listens; before that there is nothing to save."""
        if not self.asked or self.told:
            return
        self.told = True
        ready = self.desk / READY
        with contextlib.suppress(ProcessLookupError):
            if ready.exists():
                os.kill(int(ready.read_text()), self.asked)
            else:
                self.agent.terminate()

    def _kill(self) -> None:
        """End all of them at once, saving nothing."""
        workers = [int(path.read_text()) for path in self.desk.glob("pid-*")]
        for process in (*workers, self.agent.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)

    def _verdict(self) -> int:
        stopped = self.desk / STOPPED
        if self.asked and (self.agent.returncode != 0 or stopped.exists()):
            return 128 + self.asked
        if stopped.exists():
            return 128 + int(stopped.read_text())
        if self.agent.returncode == 0:
            return 0
        raise self._failure()

    def _failure(self) -> GptkitError:
        """The error of the worker that failed first; the others only lost it."""
        reports = [json.loads(path.read_text("utf-8")) for path in self.desk.glob("error-*.json")]
        if reports:
            first = min(reports, key=lambda report: report["time"])
            if first["expected"]:
                error = (
                    UserError(first["message"]) if first["exit_code"] == 2 else GptkitError(first["message"])
                )
                return error
            return WorkerError(
                f"Worker {first['rank']} of {self.count} failed: {first['message']}\n{first['tail']}"
            )
        return WorkerError(f"{self._death()}\n{self._last_lines()}".strip())

    def _death(self) -> str:
        """How a worker ended that could not tell of it itself."""
        report = self.desk / AGENT
        if not report.exists():
            return f"The workers could not be started (exit code {self.agent.returncode})."
        died = json.loads(report.read_text("utf-8"))
        rank, code = died["rank"], died["exit_code"]
        if code >= 0:
            return f"Worker {rank} of {self.count} ended with exit code {code}."
        name = signal.Signals(-code).name
        hint = " The machine may have run out of memory." if name == "SIGKILL" else ""
        return f"Worker {rank} of {self.count} was killed by {name}.{hint}"

    def _last_lines(self) -> str:
        lines: list[str] = []
        for log in sorted((self.run.path / "logs").glob("rank-*.log")):
            tail = log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:]
            lines += [f"--- {log}", *tail] if tail else []
        return "\n".join(lines)


def report_failure(error: BaseException, tail: str, world: World) -> None:
    """Leave word of this process's failure for the one that launched it."""
    desk = os.environ.get(DESK)
    if not desk:
        return
    report = {
        "rank": world.rank,
        "time": time.time(),
        "expected": isinstance(error, GptkitError),
        "exit_code": getattr(error, "exit_code", 1),
        "message": str(error) if isinstance(error, GptkitError) else f"{type(error).__name__}: {error}",
        "tail": tail,
    }
    _write(Path(desk) / f"error-{world.rank}.json", json.dumps(report))


def report_stop(number: int) -> bool:
    """Leave word that a signal stopped the run; returns whether anyone waits for it."""
    desk = os.environ.get(DESK)
    if desk:
        _write(Path(desk) / STOPPED, str(number))
    return bool(desk)


def _write(path: Path, text: str) -> None:
    """Whole or not at all: someone polls for it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text, "utf-8")
    draft.replace(path)
