"""What a machine bears, how jobs get their processes, and how they are shown."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gptkit.compare import jobs, machine
from gptkit.compare.board import Board, _Table
from gptkit.compare.plan import create_job, plan
from gptkit.compare.results import Point
from gptkit.train import strategies

TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer. "
TINY = [
    "debug=smoke",
    "tokenizer=byte",
    "data=text",
    "model.d_model=16",
    "model.n_layers=1",
    "trainer.sample_tokens=0",
    "lengths=1",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("starter", ["Scratch", "Nursery"])
def test_how_a_process_ends_is_told(here: Path, starter: str) -> None:
    from gptkit.compare import processes

    if starter == "Nursery" and sys.platform != "linux":
        pytest.skip("forks only on Linux")
    environment = {"OMP_NUM_THREADS": "1"}
    with processes.Nursery(environment) if starter == "Nursery" else processes.Scratch() as starts:
        missing = starts.start([str(here / "nothing"), "1"], environment, here / "log.txt")
        killed = starts.start([str(here / "nothing"), "1"], environment, here / "other.txt")
        os.kill(killed.pid, signal.SIGKILL)
        codes: dict[int, int | None] = {missing.pid: None, killed.pid: None}
        deadline = time.monotonic() + 60
        while None in codes.values() and time.monotonic() < deadline:
            codes = {process.pid: process.poll() for process in (missing, killed)}
            time.sleep(0.02)
    assert codes == {missing.pid: 2, killed.pid: -signal.SIGKILL}
    assert "is no run directory" in (here / "log.txt").read_text()


CPU: dict[str, Any] = {"accelerator": "cpu", "devices": "auto", "trainer": {"threads": None}}


@pytest.mark.parametrize(
    ("threads", "count", "jobs_word", "shares"),
    [
        (None, 20, None, [1] * 8),
        (2, 20, None, [2] * 4),
        (3, 20, None, [4] * 2),
        (None, 3, None, [2] * 3),
        (None, 20, 2, [4] * 2),
        (None, 20, 16, [1] * 16),
        (16, 20, None, [8]),
    ],
)
def test_cores_are_shared_out(
    threads: int | None, count: int, jobs_word: int | None, shares: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies, "share_of_cores", lambda processes: 8 // processes)
    configs = [{**CPU, "trainer": {"threads": threads}}] * count
    found = machine.shares(configs, jobs_word)
    assert [share.threads for share in found] == shares
    assert found[0].environment == {"OMP_NUM_THREADS": str(shares[0]), "MKL_NUM_THREADS": str(shares[0])}


@pytest.mark.parametrize(
    ("devices", "jobs_word", "visible", "shares"),
    [
        ("auto", None, None, ["0", "1", "2", "3"]),
        (2, None, None, ["0,1", "2,3"]),
        (3, None, None, ["0,1,2"]),
        ("auto", 6, None, ["0", "1", "2", "3", "0", "1"]),
        ("auto", None, "5,GPU-7", ["5", "GPU-7"]),
    ],
)
def test_each_job_has_gpus_of_its_own(
    devices: Any,
    jobs_word: int | None,
    visible: str | None,
    shares: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strategies, "cuda_devices", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    configs = [{**CPU, "accelerator": "auto", "devices": devices}] * 10
    found = machine.shares(configs, jobs_word)
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in found] == shares


def some_jobs(here: Path) -> list[jobs.Job]:
    made = plan(["position=rotary,none", "seed=1,2", "data.path=long.txt", *TINY])
    folder = made.create()
    every = [jobs.Job(point, create_job(folder, point), [1.0]) for point in made.points]
    for job, state in zip(every, ("finished", "running", "failed", "waiting"), strict=True):
        job.state = state
    every[0].seconds, every[0].row = 12.0, {"step": 4, "loss": 2.0, "val_loss": 2.125, "seconds": 8.0}
    every[2].told = "It ended with exit code 1.\nno memory"
    (every[1].run.path / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 3.25, "seconds": 2}\n{"step": 2, "lo'
    )
    return every


def test_metrics_are_read_as_they_come(here: Path) -> None:
    job = some_jobs(here)[1]
    path = job.run.path / "metrics.jsonl"
    job.read()
    assert job.row == {"step": 1, "loss": 3.25, "seconds": 2}
    with path.open("a") as file:
        file.write('ss": 3.0, "seconds": 4}\n')
    job.read()
    assert job.row == {"step": 2, "loss": 3.0, "seconds": 4}
    path.write_text('{"step": 1, "loss": 3.5}\n')  # cut back to a checkpoint
    job.read()
    assert job.row["loss"] == 3.5


def test_the_live_table(here: Path) -> None:
    every = some_jobs(here)
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=30, color_system=None)
    with _Table(every, 2, console) as board:
        board.draw()
        board.ended(every[2])
    told = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [line.split() for line in told.splitlines()]
    assert ["rotary", "1", "4/4", "2.000", "2.125", "finished"] in lines
    assert ["none", "1", "1/4", "3.250", "0:06", "running"] in lines
    assert ["none", "2", "0/4", "waiting"] in lines
    assert "1 waiting, 1 running, 1 finished, 1 failed" in told
    assert "[3/4] rotary, seed 2: failed" in told
    assert "    no memory" in told
    board.jobs = [
        jobs.Job(Point(n, job.point.variant, 1, []), job.run, [1.0]) for n in range(9) for job in every[:1]
    ]
    console.size = (100, 9)  # type: ignore[assignment]
    assert len(board._chosen()) == 4  # type: ignore[attr-defined]


def test_lines_where_there_is_no_terminal(here: Path) -> None:
    every = some_jobs(here)
    console = Console(file=io.StringIO(), width=100)
    with Board(every, 2, console) as board:
        board.started(every[3])
        board.ended(every[0])
        board.stopping(again=False)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "4 jobs, 1 done before, 2 at once",
        "[4/4] none, seed 2: started",
        "[1/4] rotary, seed 1: finished, validation loss 2.1250, 0:12, 0:12 left",
        "Stopping: each job saves a checkpoint.",
    ]
