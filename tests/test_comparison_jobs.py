"""`gptkit.compare.jobs`: real small sweeps; one job that dies, one sweep that is stopped, and how they go on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptkit.compare import jobs, tables
from gptkit.compare.gather import gather
from gptkit.compare.honesty import warnings
from gptkit.compare.plan import create_job, plan
from gptkit.compare.processes import Nursery, Scratch, starter
from gptkit.compare.statistics import compare
from gptkit.errors import RunError
from gptkit.train import metrics

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


@pytest.fixture(scope="module")
def processes() -> Iterator[Scratch | Nursery]:
    """One for all tests: it imports torch."""
    with starter({"OMP_NUM_THREADS": "1"}) as started:
        yield started


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: Scratch | Nursery) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "starter", lambda environment: contextlib.nullcontext(processes))
    return tmp_path


def test_jobs_that_end_well_and_one_that_does_not(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "long.txt").write_text(20 * TEXT)
    (here / "short.txt").write_text("To be")
    folder = plan(["data.path=long.txt,short.txt", "seed=1,2", *TINY]).create()
    (folder / "jobs/003/config.json").unlink()  # as if the disk had been full: it is made again
    (folder / "jobs/003").rename(here / "gone")

    assert jobs.run(folder, quiet=True) == jobs.FAILED
    told = capfd.readouterr().err
    assert told.count("failed, ") == 2
    assert f"[2/4] short.txt, seed 1: failed, {folder}/jobs/001" in told
    assert "It ended with exit code 2." in told
    assert "too short" in told or "shorter" in told
    assert "started" not in told
    found = gather(folder)
    assert [run.status for run in found.runs] == ["finished", "new", "finished", "new"]
    assert set(found.scores()["long.txt"]) == {1, 2}
    first = found.runs[0]
    assert first.result["steps"] == 4
    assert first.measures["cost"]["parameters"] == first.result["parameters"]
    assert (first.path / "log.txt").is_file()

    before = [(run.path / "result.json").stat().st_mtime_ns for run in found.runs if run.status == "finished"]
    (here / "short.txt").write_text(21 * TEXT)
    assert jobs.run(folder, jobs=2) == 0
    told = capfd.readouterr().err
    assert "4 jobs, 2 done before, 2 at once" in told
    assert "[2/4] short.txt, seed 1: started" in told
    assert "short.txt, seed 2: finished, validation loss" in told
    assert "long.txt" not in told
    found = gather(folder)
    assert [run.status for run in found.runs] == ["finished"] * 4
    assert [(found.runs[n].path / "result.json").stat().st_mtime_ns for n in (0, 2)] == before
    assert jobs.run(folder) == 0
    assert capfd.readouterr().err == ""


def rows_of(folder: Path) -> list[int]:
    """The newest step of each job."""
    rows = [metrics.read(place / "metrics.jsonl") for place in sorted((folder / "jobs").iterdir())]
    return [found[-1]["step"] if found else 0 for found in rows]


def test_ctrl_c_loses_nothing(here: Path) -> None:
    (here / "long.txt").write_text(20 * TEXT)
    long = ["trainer.max_steps=2000", "trainer.eval_every=null", "trainer.checkpoint_every=null"]
    words = ["position=rotary,none", "seed=1,2", "data.path=long.txt", "jobs=2", *TINY, *long]
    process = subprocess.Popen(
        [sys.executable, "-m", "gptkit", "compare", *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    folder = None
    while time.monotonic() < deadline:
        folder = next(Path("runs").glob("*"), None)
        if folder and (folder / "jobs/003").is_dir() and min(rows_of(folder)[:2]) > 5:
            break
        time.sleep(0.05)
    assert folder is not None
    os.kill(process.pid, signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Stopping: each job saves a checkpoint." in told
    assert f"Stopped. To go on: gptkit compare resume={folder}" in told
    found = gather(folder)
    assert [run.status for run in found.runs] == ["stopped", "stopped", "new", "new"]
    steps = [run.result["steps"] for run in found.runs[:2]]
    assert all(
        (run.path / f"checkpoints/step-{step:06d}").is_dir()
        for run, step in zip(found.runs, steps, strict=False)
    )

    for place in (folder / "jobs").iterdir():  # so that the rest takes no time
        config = json.loads((place / "config.json").read_text())
        config["trainer"]["max_steps"] = max(steps) + 3
        (place / "config.json").write_text(json.dumps(config))
    assert jobs.run(folder, jobs=2, quiet=True) == 0
    found = gather(folder)
    assert [run.status for run in found.runs] == ["finished"] * 4
    for run in found.runs:
        assert [row["step"] for row in run.rows] == list(range(1, max(steps) + 4))
    assert "Going on from step" in (found.runs[0].path / "log.txt").read_text()


def test_a_job_is_held_by_one_sweep(here: Path) -> None:
    made = plan(["position=rotary,none", "seed=1", "data.path=long.txt", *TINY])
    folder = made.create()
    with (
        create_job(folder, made.points[0]).checkpoints.exclusive(),
        pytest.raises(RunError, match="is being trained by"),
    ):
        jobs.run(folder)


def test_each_start_notes_its_threads_and_other_ones_are_told(here: Path) -> None:
    (here / "long.txt").write_text(20 * TEXT)
    words = ["position=rotary,none", "seed=1,2", "budget=seconds:60", "data.path=long.txt", *TINY]
    folder = plan(words).create()
    first = folder / "jobs/000"
    (first / "threads.json").write_text('{"each_start": [2]}')  # as a sweep with one job at once left it
    assert jobs.run(folder, jobs=2, quiet=True) == 0
    (first / "measures.json").unlink()
    assert jobs.run(folder, jobs=2, quiet=True) == 0
    found = gather(folder)
    assert [list(run.threads) for run in found.runs] == [[2, 1, 1], [1], [1], [1]]
    comparison = compare(found)
    [told] = [caution.text for caution in warnings(found, comparison) if caution.kind == "threads"]
    assert "rotary seed 1 on 2, then 1; the others on 1." in told
    assert "cannot be compared, nor what they learned in a budget of seconds." in told
    table = tables.cost(found, found.labels)
    assert table is not None
    assert table.notes[-1] == "Times and speeds cannot be compared here: jobs had 1 and 2 CPU threads."

    alike = dataclasses.replace(
        found, runs=[dataclasses.replace(run, threads=run.threads[-1:]) for run in found.runs]
    )
    assert "threads" not in {caution.kind for caution in warnings(alike, comparison)}
    table = tables.cost(alike, alike.labels)
    assert table is not None
    assert len(table.notes) == 1
