"""`hydra/launcher=`: what may be said of it, and that jobs go through it and come back."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gptkit.cli import main
from gptkit.compare import jobs, launcher
from gptkit.compare.gather import gather
from gptkit.compare.launched import BEGUN, EXIT, STOP, Launched
from gptkit.compare.launcher import Launcher, take
from gptkit.compare.plan import create_job, plan
from gptkit.errors import UserError

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


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "long.txt").write_text(20 * TEXT)
    return tmp_path


@pytest.fixture
def basic(monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """Hydra's own launcher, which does one job after the other and is always there."""
    monkeypatch.setattr(launcher, "_must_be_there", lambda name, there: None)
    return Launcher("basic")


def children() -> set[int]:
    """This process's children, those that wait to be reaped too; where there is no /proc, none."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            after_name = place.read_text().rpartition(")")[2].split()
            if int(after_name[1]) == os.getpid():
                found.add(int(place.parent.name))
    return found


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["hydra/launcher=jobli"], "hydra/launcher: there is no launcher 'jobli'. Did you mean 'joblib'?"),
        (["hydra/launcher=basic"], "there is no launcher 'basic'. There are: joblib, submitit_slurm"),
        (["hydra/launcher=os.system"], "there is no launcher 'os.system'."),
        (["hydra.launcher.n_jobs=2"], "hydra.launcher.n_jobs=2: no launcher is chosen."),
        (["hydra/launcher=joblib", "hydra.launcher._target_=os.system"], "is no option of a launcher."),
        (["hydra/launcher=joblib", "hydra.launcher.a.__b=1"], "is no option of a launcher."),
        (["hydra/launcher=joblib", "hydra.launcher.a={b:{_target_:os.system}}"], "expected a plain value"),
        (["hydra/launcher=joblib", "hydra.launcher.a=[{_target_:os.system}]"], "expected a plain value"),
        (["hydra/launcher=joblib", "hydra.launcher.a=${oc.env:HOME}"], "expected a plain value"),
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=1,2"], "expected a plain value"),
    ],
)
def test_what_a_launcher_is_not_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "position=rotary,none", *words, *TINY]) == 2
    assert told in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(("name", "extra"), launcher.PACKAGES.items())
def test_one_that_is_missing_says_what_to_install(name: str, extra: str) -> None:
    with pytest.raises(UserError) as caught:
        launcher._must_be_there(name, [])
    assert str(caught.value) == (
        f"hydra/launcher={name} needs hydra-{extra}-launcher, which is not installed. "
        f"Run: pip install 'gptkit[{extra}]'"
    )


def test_what_is_called_comes_from_the_plugin_alone(basic: Launcher) -> None:
    _, config = launcher.hydra_config(basic, Path("a'b,c=d"))
    assert config.hydra.launcher._target_ == "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    assert config.hydra.sweep.dir == "a'b,c=d"
    with pytest.raises(UserError, match="only the plugin itself says what is called"):
        launcher.hydra_config(Launcher("basic", ("hydra.launcher._target_=os.system",)), Path())
    with pytest.raises(UserError, match="basic cannot be set up: Could not override 'hydra.launcher.x'"):
        launcher.hydra_config(Launcher("basic", ("hydra.launcher.x=1",)), Path())


def test_it_leaves_hydra_as_it_was(basic: Launcher) -> None:
    from hydra.core.global_hydra import GlobalHydra

    assert not GlobalHydra.instance().is_initialized()
    launcher.hydra_config(basic, Path())
    assert not GlobalHydra.instance().is_initialized()


def test_a_folder_never_chooses_a_launcher() -> None:
    made = plan(["position=rotary,none", "seed=1", *TINY]).sweep()
    assert "hydra" not in " ".join(made["command"])
    with pytest.raises(UserError, match="hydra"):
        plan(["position=rotary,none", "seed=1", "hydra/launcher=joblib", *TINY])


def test_jobs_go_through_it_one_dies_and_is_told(
    here: Path, basic: Launcher, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "short.txt").write_text("To be")
    folder = plan(["data.path=long.txt,short.txt", "seed=1", *TINY[:3], *TINY[4:]]).create()
    threads, processes = set(threading.enumerate()), children()
    assert jobs.run(folder, launcher=basic, quiet=True) == jobs.FAILED
    told = capfd.readouterr().err
    assert "[2/2] short.txt, seed 1: failed" in told
    assert "It ended with exit code 2." in told
    found = gather(folder)
    assert [run.status for run in found.runs] == ["finished", "new"]
    assert found.runs[0].measures
    assert [(place / EXIT).read_text() for place in sorted((folder / "jobs").iterdir())] == ["0", "2"]
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not set(threading.enumerate()) - threads
    assert not children() - processes


def test_a_launcher_that_gives_up_is_told(
    here: Path, basic: Launcher, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from hydra.core.plugins import Plugins

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("sbatch: command not found")

    monkeypatch.setattr(Plugins, "instantiate_launcher", refuse)
    folder = plan(["position=rotary,none", "seed=1", *TINY]).create()
    assert jobs.run(folder, launcher=basic, quiet=True) == jobs.FAILED
    told = capfd.readouterr().err
    assert told.count("The launcher gave up: OSError: sbatch: command not found") == 2


def test_a_signal_reaches_a_job_elsewhere_and_one_that_waits_never_begins(
    here: Path, basic: Launcher
) -> None:
    made = plan(
        ["position=rotary,none", "seed=1", *TINY, "trainer.max_steps=5000", "trainer.eval_every=null"]
    )
    folder = made.create()
    runs = [create_job(folder, point) for point in made.points]
    started = Launched(basic, folder)
    processes = [started.start([str(run.path.resolve()), "1"], {}, run.path / "log.txt") for run in runs]
    started.flush()
    metrics = runs[0].path / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.is_file() and metrics.read_text().count("\n") > 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [process.poll() for process in processes] == [None, None]
    processes[1].send(signal.SIGINT)
    assert processes[1].poll() == 130
    processes[0].send(signal.SIGTERM)
    while None in [process.poll() for process in processes] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes[0].poll() == 143
    while not (runs[1].path / EXIT).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [run.status for run in runs] == ["stopped", "new"]
    assert not (runs[1].path / "log.txt").exists()

    started.start([str(runs[1].path.resolve()), "1"], {}, runs[1].path / "log.txt")
    assert not any((runs[1].path / name).exists() for name in (BEGUN, EXIT, STOP))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("hydra_plugins.hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_plugins.hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
    ],
)
def test_the_plugins_themselves(module: str, words: list[str]) -> None:
    pytest.importorskip(module)
    chosen, rest = take([*words, "position=rotary,none"])
    assert rest == ["position=rotary,none"]
    tune = "tune=optimizer.lr:1e-3,1e-1"
    folder = plan(["position=rotary,none", "seed=1", tune, *TINY]).create()
    assert jobs.run(folder, launcher=chosen, quiet=True) == 0
    found = gather(folder)
    assert {run.status for run in (*found.runs, *found.trials)} == {"finished"}
    assert set(found.tuned) == {"rotary", "none"}
