"""`tune=`: every variant tries the same values on a seed of its own, and reports with the best of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import gptkit
from gptkit.compare import jobs, report, tuning
from gptkit.compare.gather import gather, read_sweep
from gptkit.compare.honesty import warnings
from gptkit.compare.plan import plan
from gptkit.compare.processes import Nursery, Scratch, starter
from gptkit.compare.results import Point, Results, Trained
from gptkit.compare.stages import work_of
from gptkit.compare.statistics import compare
from gptkit.compare.trials import read_tuned
from gptkit.errors import RunError

TEXT = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer. "
TINY = [
    "debug=smoke",
    "tokenizer=byte",
    "data=text",
    "data.path=long.txt",
    "model.d_model=16",
    "model.n_layers=1",
    "trainer.sample_tokens=0",
    "lengths=1",
]
RATES = "tune=optimizer.lr:[1e-4,1e-1]"
RANGE: dict[str, Any] = {"low": "1e-4", "high": "1e-2", "log": True}


@pytest.fixture(scope="module")
def processes() -> Iterator[Scratch | Nursery]:
    """One for all tests: it imports torch."""
    with starter({"OMP_NUM_THREADS": "1"}) as started:
        yield started


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "long.txt").write_text(20 * TEXT)
    (tmp_path / "short.txt").write_text("To be")
    return tmp_path


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, processes: Scratch | Nursery) -> None:
    monkeypatch.setattr(jobs, "starter", lambda environment: contextlib.nullcontext(processes))


def test_every_variant_tries_the_same_and_reports_with_its_best(
    shared: None, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["position=rotary,none", "seed=1", RATES, "trials=2", "tune_seed=7,8", "jobs=2", *TINY]
    folder = plan(words).create()
    assert not (folder / "jobs").is_dir() or not list((folder / "jobs").iterdir())
    assert jobs.run(folder) == 0
    told = capfd.readouterr().err
    assert "10 jobs, 0 done before, 2 at once" in told
    assert "trial [1/8] rotary, lr=1e-4, seed 7: finished, validation loss" in told
    assert "[2/2] none, seed 1: finished" in told

    found = gather(folder)
    assert len(found.trials) == 8
    assert {trial.status for trial in found.trials} == {run.status for run in found.runs} == {"finished"}
    for label in ("rotary", "none"):
        mine = [trial for trial in found.trials if trial.label == label]
        assert [(t.point.tuned["optimizer.lr"], t.seed) for t in mine] == [
            (rate, seed) for rate in ("1e-4", "1e-1") for seed in (7, 8)
        ]
        means = {
            rate: sum(t.result["val_loss"] for t in mine if t.point.tuned["optimizer.lr"] == rate) / 2
            for rate in ("1e-4", "1e-1")
        }
        best = min(means, key=lambda rate: means[rate])
        assert found.tuned[label] == {"optimizer.lr": best}
        assert len(set(means.values())) == 2
        for run in found.finished(label).values():
            assert run.config["optimizer"]["lr"] == float(best)
            assert run.config == gptkit.compose(run.point.overrides)
        assert all(not trial.measures and trial.config["seed"] == trial.seed for trial in mine)
    batches = {run.measures["proof"]["batches"] for run in found.runs if run.seed == 1}
    assert len(batches) == 1

    comparison = compare(found)
    assert "one_rate" not in {caution.kind for caution in warnings(found, comparison)}
    report.write(found, comparison, list(tuning.cautions(found)), [])
    facts = json.loads((folder / "results.json").read_text())["tuning"]
    assert facts["seeds"] == [7, 8]
    assert (facts["trials_each"], len(facts["trials"])) == (2, 8)
    assert facts["chosen"] == found.tuned
    assert [x for x, _, _ in facts["curves"]["optimizer.lr"]["rotary"]] == [1e-4, 0.1]
    page = (folder / "report.html").read_text()
    assert "on seeds 7 and 8, which are not reported" in page
    assert (folder / "plots/tuning-optimizer-lr.svg").is_file()
    assert "## Tuning" in (folder / "report.md").read_text()

    assert jobs.run(folder) == 0
    assert capfd.readouterr().err == ""


def test_trials_that_fail_are_not_chosen_and_told(shared: None) -> None:
    words = [word for word in TINY if not word.startswith("data.path")]
    folder = plan(["seed=1", "tune=data.path:{short.txt,long.txt}", "jobs=2", *words]).create()
    assert jobs.run(folder, quiet=True) == 0
    found = gather(folder)
    assert found.labels == ["best"]
    assert found.tuned == {"best": {"data.path": "long.txt"}}
    [caution] = tuning.cautions(found)
    assert caution.text == "Trials that did not finish, and so could not be chosen: best 1."

    Path("other.txt").write_text("No")
    folder = plan(["seed=1", "tune=data.path:{short.txt,other.txt}", "jobs=2", *words]).create()
    assert jobs.run(folder, quiet=True) == jobs.FAILED
    assert not gather(folder).tuned
    assert {caution.kind for caution in tuning.cautions(gather(folder))} == {"failed_trials", "untuned"}
    Path("other.txt").write_text(20 * TEXT)
    assert jobs.run(folder, quiet=True) == 0
    assert gather(folder).tuned == {"best": {"data.path": "other.txt"}}
    Path("short.txt").write_text(20 * TEXT)  # too late: the choice stands, and its trial is not run again
    assert jobs.run(folder, quiet=True) == 0
    assert [trial.status for trial in gather(folder).trials] == ["new", "finished"]
    work = work_of(folder, *read_sweep(folder))
    assert (work.left, work.failed, work.later()) == (False, False, 0)
    assert [job.state for job in work.jobs] == ["failed", "finished", "finished"]


def test_ctrl_c_in_the_trials_loses_nothing(shared: None) -> None:
    long = ["trainer.max_steps=2000", "trainer.eval_every=null", "trainer.checkpoint_every=null"]
    words = ["position=rotary,none", "seed=1", RATES, "trials=2", "jobs=2", *TINY, *long]
    process = subprocess.Popen(
        [sys.executable, "-m", "gptkit", "compare", *words], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    places: list[Path] = []
    while time.monotonic() < deadline:
        places = sorted(Path("runs").glob("*/trials/00[01]/metrics.jsonl"))
        if len(places) == 2 and all(place.read_text().count("\n") > 2 for place in places):
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Stopping: each job saves a checkpoint." in told
    [folder] = Path("runs").iterdir()
    found = gather(folder)
    assert [trial.status for trial in found.trials] == ["stopped", "stopped"]
    assert {run.status for run in found.runs} == {"new"}
    assert not found.tuned

    last = max(trial.result["steps"] for trial in found.trials) + 2  # so that the rest takes no time
    sweep = (folder / "sweep.json").read_text()
    (folder / "sweep.json").write_text(sweep.replace("max_steps=2000", f"max_steps={last}"))
    for trial in found.trials:
        config = json.loads((trial.path / "config.json").read_text())
        config["trainer"]["max_steps"] = last
        (trial.path / "config.json").write_text(json.dumps(config))
    assert jobs.run(folder, quiet=True) == 0
    found = gather(folder)
    assert [trial.status for trial in found.trials] == ["finished"] * 4
    assert [run.status for run in found.runs] == ["finished"] * 2
    assert [row["step"] for row in found.trials[0].rows if "loss" in row] == list(range(1, last + 1))
    assert "Going on from step" in (found.trials[0].path / "log.txt").read_text()


def made_up(chosen: str, space: dict[str, Any], tried: Sequence[str] = ()) -> Results:
    """A sweep of one variant that has been tuned, by Optuna unless values of a grid are given."""
    tune = {
        "spaces": [{"choices": [], "low": "", "high": "", "log": False, "whole": False, **space}],
        "trials": 2,
        "seeds": [9],
        "sweeper": "grid" if tried else "optuna",
        "pruner": "median",
        "values": [{str(space["key"]): value} for value in tried],
    }
    run = Trained(Point(0, {"position": "rotary"}, 1, []), Path("x"), "finished", {"val_loss": 1.0})
    values = {str(space["key"]): chosen}
    return Results(Path("."), ["position"], [], [run], {"tune": tune}, [], {"rotary": values})


@pytest.mark.parametrize(
    ("chosen", "space", "tried", "where"),
    [
        ("1e-4", RANGE, (), "within 5% of the lower end of its range (1e-4) by the logarithm"),
        ("0.0082", RANGE, (), "within 5% of the upper end of its range (1e-2) by the logarithm"),
        ("0.0075", RANGE, (), None),
        ("0.0097", {**RANGE, "log": False}, (), "within 5% of the upper end of its range (1e-2), so"),
        ("0.001", {"low": "0", "high": "1e-2"}, (), None),
        ("1e-2", RANGE, ("1e-4", "9e-3", "1e-2"), "at the upper end of what was tried"),
        ("9e-3", RANGE, ("1e-4", "9e-3", "1e-2"), None),
        ("0.008", RANGE, ("0.001", "0.002", "0.008"), "at the upper end of what was tried"),
        ("3", {"choices": ["1", "3", "2"]}, (), "at the upper end of what was tried"),
        ("2", {"choices": ["1", "3", "2"]}, (), None),
        ("b", {"choices": ["a", "b"]}, (), None),
    ],
)
def test_the_best_at_the_edge_is_a_caution(
    chosen: str, space: dict[str, Any], tried: Sequence[str], where: str | None
) -> None:
    results = made_up(chosen, {"key": "optimizer.lr", **space}, tried)
    told = [caution.text for caution in tuning.cautions(results)]
    if where is None:
        assert told == []
    else:
        assert len(told) == 1
        assert told[0].startswith(f"rotary ({chosen}): the best optimizer.lr stands {where}")


@pytest.mark.parametrize("tune", [{"spaces": []}, {"spaces": [{"key": "a", "x": 1}]}, "lr", [1]])
def test_a_strangers_sweep_is_refused_in_words(here: Path, tune: Any) -> None:
    (here / "sweep.json").write_text(json.dumps({"points": [], "tune": tune}))
    with pytest.raises(RunError, match="sweep.json cannot be used: tune: "):
        gather(here)
    with pytest.raises(RunError, match="sweep.json cannot be used: tune: "):
        jobs.run(here)


def test_nothing_is_chosen_while_a_trial_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plan(["position=rotary,none", "seed=1", RATES, "trials=2", *TINY]).create()
    work = work_of(folder, *read_sweep(folder))
    trials = [job for _ in range(4) if (job := work.take())]
    assert work.take() is None
    assert work.later() == 2
    losses = {job.point.name: loss for job, loss in zip(trials, (3.0, 2.0, 1.0, 4.0), strict=True)}
    monkeypatch.setattr(work, "_loss", lambda job: losses[job.point.name])
    for job, state in zip(trials, ("finished", "finished", "stopped", "failed"), strict=True):
        job.state = state
        work.ended(job)
    assert read_tuned(folder) == {"none": {"optimizer.lr": "1e-4"}}
    trials[2].state = "finished"
    work.ended(trials[2])
    assert read_tuned(folder)["rotary"] == {"optimizer.lr": "1e-1"}
    final = [work.take(), work.take(), work.take()]
    assert [job and job.name for job in final] == ["rotary, seed 1", "none, seed 1", None]
    assert work.later() == 0
