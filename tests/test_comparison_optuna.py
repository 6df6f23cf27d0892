"""`sweeper=optuna`: a study for each variant, trials that are ended early, and how it goes on."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gptkit.compare import jobs, stages, tuning
from gptkit.compare.gather import gather
from gptkit.compare.optuna_search import JOURNAL, OptunaSearch
from gptkit.compare.plan import plan
from gptkit.compare.processes import Nursery, Scratch, starter
from gptkit.compare.search import search
from gptkit.compare.spaces import Space, Tuning

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
RATE = Space("optimizer.lr", low="1e-5", high="1e-1", log=True)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def processes() -> Iterator[Scratch | Nursery]:
    """One for all tests: it imports torch."""
    with starter({"OMP_NUM_THREADS": "1"}) as started:
        yield started


def begun(folder: Path, trials: int = 12, steps: int = 100) -> OptunaSearch:
    pytest.importorskip("optuna")
    found = search(Tuning((RATE,), trials, (9,), "optuna"), folder, steps)
    assert isinstance(found, OptunaSearch)
    return found


def rate(values: dict[str, str]) -> float:
    return float(values["optimizer.lr"])


def test_what_is_tried_first_is_the_same_for_every_variant_and_after_a_stop(here: Path) -> None:
    found = begun(here)
    tried = [found.propose("rotary", n) for n in range(4)]
    assert [found.propose("none", n) for n in range(4)] == tried
    assert [found.propose("rotary", n) for n in range(4)] == tried
    assert len({rate(values) for values in tried}) == 4
    assert [begun(here).propose("rotary", n) for n in range(4)] == tried
    (here / "other").mkdir()
    assert [begun(here / "other").propose("rotary", n) for n in range(4)] == tried


def test_it_seeks_where_losses_are_low(here: Path) -> None:
    import math

    found = begun(here, trials=30)
    tried = []
    for n in range(30):
        tried.append(rate(found.propose("one", n)))
        found.tell("one", n, abs(math.log10(tried[-1]) + 3))  # best at 1e-3
    near = [sum(abs(math.log10(x) + 3) < 0.5 for x in part) for part in (tried[:10], tried[20:])]
    assert near[1] > near[0]
    assert min(abs(math.log10(x) + 3) for x in tried) < 0.1


def test_what_falls_behind_is_hopeless_and_what_leads_is_not(here: Path) -> None:
    found = begun(here)
    for n in range(3):
        found.propose("one", n)
        assert not found.hopeless("one", n, {10: 3.0 + n / 10, 20: 2.0 + n / 10, 100: 1.0})
        found.tell("one", n, 1.0)
    found.propose("one", 3)
    assert not found.hopeless("one", 3, {10: 2.9})
    found.propose("one", 4)
    assert found.hopeless("one", 4, {10: 5.0})
    found.propose("one", 5)
    assert found.hopeless("one", 5, {10: float("nan")})
    again = begun(here)
    assert not again.hopeless("one", 3, {10: 2.9})  # told before
    assert again.hopeless("one", 3, {10: 2.9, 20: 9.0})
    again.propose("one", 6)
    assert not again.hopeless("one", 6, {100: 9.0})  # it has come to its end anyway


def test_kinds_of_values(here: Path) -> None:
    pytest.importorskip("optuna")
    kinds = (
        Space("a", ("x", "y")),
        Space("b", low="1", high="9", whole=True),
        Space("c", low="0", high="1.0"),
    )
    found = search(Tuning(kinds, 9, (9,), "optuna", "hyperband"), here, 90)
    for n in range(9):
        values = found.propose("one", n)
        assert values["a"] in ("x", "y")
        assert values["b"] in map(str, range(1, 10))
        assert 0 <= float(values["c"]) <= 1
        found.tell("one", n, None if n % 3 == 0 else 1.0, pruned=n % 3 == 1)
        found.tell("one", n, 1.0)  # twice does no harm
    assert not list(here.glob("*.pkl"))


def test_from_trials_to_a_report(
    here: Path, monkeypatch: pytest.MonkeyPatch, processes: Scratch | Nursery
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr(jobs, "starter", lambda environment: contextlib.nullcontext(processes))
    monkeypatch.setattr(stages, "_WATCH_SECONDS", 0.05)
    (here / "long.txt").write_text(20 * TEXT)
    words = ["seed=1", "hydra/sweeper=optuna", "tune=optimizer.lr:[1e-5,1e-1]", "trials=6", "jobs=1"]
    folder = plan([*words, *TINY, "trainer.max_steps=200", "trainer.eval_every=10"]).create()
    assert jobs.run(folder, jobs=1, quiet=True) == 0
    found = gather(folder)
    states = [trial.status for trial in found.trials]
    assert len(states) == 6
    assert set(states) == {"finished", "pruned"}
    for trial in found.trials:
        if trial.status == "pruned":
            step = trial.result["steps"]
            assert step < 200
            assert (trial.path / f"checkpoints/step-{step:06d}").is_dir()
    losses = {
        float(trial.point.tuned["optimizer.lr"]): trial.result["val_loss"]
        for trial in found.trials
        if trial.status == "finished"
    }
    assert found.runs[0].config["optimizer"]["lr"] == min(losses, key=lambda lr: losses[lr])
    facts = tuning.facts(found)
    assert facts is not None
    assert [entry["loss"] is None for entry in facts["trials"]] == [state == "pruned" for state in states]
    assert (folder / JOURNAL).is_file()
    before = (folder / JOURNAL).read_text()
    assert jobs.run(folder, quiet=True) == 0
    assert (folder / JOURNAL).read_text() == before


def test_without_optuna_it_says_what_to_install(here: Path) -> None:
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "from gptkit.cli import main\n"
        "sys.exit(main(['compare', 'tune=optimizer.lr:[1e-4,1e-3]', 'sweeper=optuna', 'debug=smoke', 'tokenizer=byte']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 2
    assert (
        "sweeper=optuna needs Optuna, which is not installed. Run: pip install 'gptkit[optuna]'"
        in ended.stderr
    )
    assert "Traceback" not in ended.stderr
    assert not Path("runs").exists()
