"""What a signal does to a process that trains, tried on small ones; and what their launcher makes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gptkit.errors import GptkitError, UserError
from gptkit.train import launch as launch_module
from gptkit.train.launch import DESK, WorkerError, _Fleet, report_failure, report_stop
from gptkit.train.signals import StopSignals, exit_code
from gptkit.train.world import World

PROGRAM = """
import sys, time
from gptkit.train.signals import StopSignals
stop = StopSignals()
with stop.listening():
    print("ready", flush=True)
    while not stop.received:
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(float(sys.argv[1]))  # the step that is being finished
print("saved", stop.received, flush=True)
sys.exit(128 + stop.received)
"""


def start(seconds: float, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_step_end(number: signal.Signals) -> None:
    process = start(0.2)
    process.send_signal(number)
    assert next_line(process) == "asked"
    assert next_line(process) == f"saved {int(number)}"
    assert process.wait() == exit_code(number) == 128 + number


def test_a_second_ctrl_c_stops_at_once() -> None:
    process = start(60)
    process.send_signal(signal.SIGINT)
    assert next_line(process) == "asked"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == -signal.SIGINT


def test_sigterm_may_come_twice() -> None:
    process = start(0.3)
    process.send_signal(signal.SIGTERM)
    assert next_line(process) == "asked"
    process.send_signal(signal.SIGTERM)
    assert next_line(process) == "saved 15"
    assert process.wait() == 143


def test_under_torchrun_one_ctrl_c_may_arrive_twice() -> None:
    process = start(0.3, TORCHELASTIC_RUN_ID="x")
    process.send_signal(signal.SIGINT)
    assert next_line(process) == "asked"
    process.send_signal(signal.SIGINT)
    assert next_line(process) == "saved 2"
    assert process.wait() == 130


def test_handlers_are_put_back_and_threads_take_none() -> None:
    before = signal.getsignal(signal.SIGINT)
    stop = StopSignals()
    with stop.listening():
        assert signal.getsignal(signal.SIGINT) != before
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) == before
    told: list[Any] = []

    def elsewhere() -> None:
        with StopSignals().listening():
            told.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert told == [before]


@pytest.fixture
def fleet(tmp_path: Path) -> _Fleet:
    """A launcher whose agent has ended; what the workers left lies on its desk."""
    found = _Fleet(SimpleNamespace(path=tmp_path), 2)  # type: ignore[arg-type]
    found.desk = tmp_path
    found.agent = SimpleNamespace(returncode=1, pid=-1)  # type: ignore[assignment]
    return found


def test_the_first_failure_is_told(fleet: _Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others fail because they lost the first."""
    monkeypatch.setenv(DESK, str(fleet.desk))
    now = iter([20.0, 10.0])
    monkeypatch.setattr(launch_module.time, "time", lambda: next(now))
    report_failure(RuntimeError("connection closed by peer"), "tail 0", World(0, 2))
    report_failure(ValueError("a wrong size"), "File x\nValueError: a wrong size", World(1, 2))
    with pytest.raises(WorkerError, match=r"Worker 1 of 2 failed: ValueError: a wrong size\nFile x\n"):
        fleet._verdict()


@pytest.mark.parametrize(
    ("error", "kind"), [(UserError("no such file"), UserError), (GptkitError("full"), GptkitError)]
)
def test_an_error_that_was_foreseen_reads_as_in_one_process(fleet, monkeypatch, error, kind) -> None:
    monkeypatch.setenv(DESK, str(fleet.desk))
    report_failure(error, "tail", World(0, 2))
    with pytest.raises(type(error)) as caught:
        fleet._verdict()
    assert str(caught.value) == str(error)
    assert caught.value.exit_code == error.exit_code


def test_a_worker_that_was_killed_is_told_with_its_last_lines(fleet: _Fleet) -> None:
    (fleet.desk / "agent.json").write_text(json.dumps({"rank": 1, "exit_code": -9}))
    (fleet.desk / "logs").mkdir()
    lines = "\n".join(f"line {n}" for n in range(100))
    (fleet.desk / "logs" / "rank-1.log").write_text(lines)
    with pytest.raises(WorkerError) as caught:
        fleet._verdict()
    told = str(caught.value)
    assert "Worker 1 of 2 was killed by SIGKILL" in told
    assert "memory" in told
    assert "line 99" in told
    assert "line 10\n" not in told
    assert len(told.splitlines()) < 20


def test_workers_that_could_not_start_are_told(fleet: _Fleet) -> None:
    with pytest.raises(WorkerError, match="could not be started"):
        fleet._verdict()


def test_a_stop_is_an_exit_code(fleet: _Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DESK, str(fleet.desk))
    fleet.agent.returncode = 0
    assert fleet._verdict() == 0
    assert report_stop(signal.SIGTERM)
    assert fleet._verdict() == 143
    fleet.asked = signal.SIGINT
    assert fleet._verdict() == 130
    monkeypatch.delenv(DESK)
    assert not report_stop(signal.SIGTERM)
