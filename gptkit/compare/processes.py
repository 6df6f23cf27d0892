"""How jobs get processes of their own: by fork from one that has imported everything, or each from scratch.

Importing torch and Lightning takes seconds, and a sweep has many jobs. So where no GPU is used (what
the driver of a GPU holds does not survive a fork) one process, `python -m gptkit.compare.processes`,
imports them once and starts every job as a fork of itself. It has one thread and has computed nothing.

It reads a line of JSON for each job, `{"arguments": [...], "folder": path, "log": path}`, and writes
`{"pid": 1}` for each that it started and `{"pid": 1, "code": 0}` for each that ended.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from gptkit.errors import GptkitError

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Process(Protocol):
    """One that was started."""

    def poll(self) -> int | None:
        """How it ended, below zero for the signal that killed it; None while it runs."""
        ...

    def send(self, number: int) -> None:
        """Send it a signal; SIGKILL goes to all that it started."""
        ...


class Starter(Protocol):
    """Starts jobs."""

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Start a job in a session of its own."""
        ...

    def flush(self) -> None:
        """Nothing more is to be started for now."""
        ...


class Local:
    """A process on this machine that leads a session of its own."""

    pid: int

    def send(self, number: int) -> None:
        """Send it a signal; SIGKILL goes to all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)


class _Spawned(Local):
    """A job that was started from scratch."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid, self.poll = process.pid, process.poll


class Scratch:
    """Starts each job from scratch."""

    def __enter__(self) -> Scratch:
        return self

    def flush(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> _Spawned:
        """Start a job in a session of its own."""
        command = [sys.executable, "-m", "gptkit.compare.job", *arguments]
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return _Spawned(process)


class Nursery:
    """Starts jobs as forks of one process that has imported what they need.

    Args:
        environment: the variables of all jobs.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._codes: dict[int, int] = {}
        self._pids: list[int] = []
        self._rest = b""

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gptkit.compare.processes"],
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._process.wait()

    def flush(self) -> None:
        pass

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> _Fork:
        """Start a job in a session of its own.

        Raises:
            GptkitError: the process that starts them has died.
        """
        order = json.dumps({"arguments": list(arguments), "folder": os.getcwd(), "log": str(log.resolve())})
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{order}\n".encode())  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        while not self._pids:
            if not self._listen(60.0) and self._process.poll() is not None:
                raise GptkitError("The process that starts the jobs has died. Is there memory left?")
        return _Fork(self._pids.pop(), self)

    def code(self, pid: int) -> int | None:
        """How a job ended; None while it runs."""
        self._listen(0.0)
        if pid not in self._codes and self._process.poll() is not None and not self._listen(0.0):
            return self._codes.get(pid, -signal.SIGKILL)
        return self._codes.get(pid)

    def _listen(self, seconds: float) -> bool:
        """Take up what the process says; returns whether it said anything."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return False
        said = os.read(self._process.stdout.fileno(), 65536)
        *lines, self._rest = (self._rest + said).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "code" in told:
                self._codes[told["pid"]] = told["code"]
            else:
                self._pids.append(told["pid"])
        return bool(said)


class _Fork(Local):
    """A job that the nursery started."""

    def __init__(self, pid: int, nursery: Nursery) -> None:
        self.pid, self._nursery = pid, nursery

    def poll(self) -> int | None:
        return self._nursery.code(self.pid)


def starter(environment: Mapping[str, str]) -> Scratch | Nursery:
    """What starts jobs best on this machine, with these variables."""
    forks = sys.platform == "linux" and "CUDA_VISIBLE_DEVICES" not in environment
    return Nursery(environment) if forks else Scratch()


def main() -> int:
    """Start jobs as they are asked for, until nobody can ask any more; in a fork, the job's exit code."""
    from gptkit.train.agent import end_with_parent

    end_with_parent()
    _import_all()
    gc.collect()
    gc.freeze()  # or each fork would look through, and so copy, all that was imported
    orders, rest = sys.stdin.fileno(), b""
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake)
    while True:
        ready = select.select([orders, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            _tell_ended()
        if orders in ready:
            said = os.read(orders, 65536)
            if not said:
                return 0
            *lines, rest = (rest + said).split(b"\n")
            for line in lines:
                order = json.loads(line)
                signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # until the fork can answer them
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    return _job(order, (woken, wake))
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
                _tell({"pid": pid})


def _job(order: Mapping[str, Any], pipes: Sequence[int]) -> int:
    """In the fork: let go of what is the other process's, and do the job."""
    from gptkit.compare import job

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(order["folder"])
    for end in pipes:
        os.close(end)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        return job.main(order["arguments"])
    except KeyboardInterrupt:
        return 130


def _tell_ended() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _tell(what: Mapping[str, int]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), f"{json.dumps(what)}\n".encode())


def _import_all() -> None:
    """What every job needs, and no thread is started by."""
    from gptkit.train.quick_import import import_lightning

    import_lightning()
    from gptkit.compare import measure
    from gptkit.train import fit, job, module, reporter, session

    assert all((fit, job, measure, module, reporter, session))


if __name__ == "__main__":
    sys.exit(main())
