"""`gptkit compare`, from words to a report; and what it says of words that make no sweep."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gptkit.cli import main
from gptkit.compare.plan import plan
from gptkit.errors import UserError
from gptkit.train.loggers.tensorboard_logger import TensorBoardLogger
from wandb_file import Kept, offline_file

TINY = [
    "debug=smoke",
    "tokenizer=byte",
    "model.d_model=16",
    "model.n_layers=1",
    "trainer.sample_tokens=0",
    "lengths=1,2",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_words_to_a_report(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "position=rotary,none", "seed=1,2", "jobs=2", *TINY]) == 0
    out, err = capfd.readouterr()
    [folder] = Path("runs").iterdir()
    assert f"Comparing in {folder}" in err
    assert "[4/4] none, seed 2: finished" in err
    ranking = [line.split() for line in out.splitlines()]
    assert {row[0]: row[-2] for row in ranking if row[:1] in (["rotary"], ["none"]) and len(row) > 5} == {
        "rotary": "2",
        "none": "2",
    }
    assert str(folder / "report.html") in out.replace("\n", "")
    for name in ("sweep.json", "results.json", "results.csv", "report.md", "report.html"):
        assert (folder / name).stat().st_size > 100

    assert main(["compare", f"resume={folder}", "--json", "-q", "baseline=none"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == json.loads((folder / "results.json").read_text())
    assert err == ""

    assert main(["compare", f"runs={folder}/jobs/*", "-q"]) == 0
    out, _ = capfd.readouterr()
    assert "rotary" in out
    assert len(list(Path("runs").glob("*-comparison/report.html"))) == 1


def test_a_sweep_that_measures_nothing() -> None:
    words = [word for word in TINY if not word.startswith("lengths")]
    assert main(["compare", "-q", "position=rotary,none", "seed=1,2", "lengths=none", *words]) == 0
    [folder] = Path("runs").iterdir()
    assert not list(folder.glob("jobs/*/measures.json"))
    assert len(json.loads((folder / "results.json").read_text())["comparison"]["differences"]) == 1
    assert main(["compare", "-q", f"resume={folder}"]) == 0
    assert not list(folder.glob("jobs/*/measures.json"))


def test_loggers_of_the_runs_get_the_table_and_the_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = ["position=rotary,none", "seed=1,2", "jobs=2", "logger=[wandb,csv,tensorboard]", *TINY]
    assert main(["compare", "-q", *words]) == 0
    [folder] = Path("runs").iterdir()
    kept = Kept(offline_file(folder))
    assert (kept.run.run_group, kept.run.job_type, kept.run.display_name) == (folder.name, "report", "report")
    ids = {Kept(path).run.run_id for path in folder.glob("jobs/*/wandb/*/*.wandb")}
    assert ids == {f"{folder.name}-jobs-{number:03d}" for number in range(4)}
    shown = {key: value for row in kept.rows for key, value in row.items() if not key.startswith("_")}
    assert {"runs", "report"} | {path.stem for path in (folder / "plots").glob("*.svg")} <= set(shown)
    files = kept.path.parent / "files"
    table = json.loads((files / shown["runs"]["path"]).read_text())
    expected = list(csv.DictReader((folder / "results.csv").open()))
    assert table["columns"] == list(expected[0])
    assert [str(row[table["columns"].index("seed")]) for row in table["data"]] == [
        row["seed"] for row in expected
    ]
    at = table["columns"].index("result.val_loss")
    assert [row[at] for row in table["data"]] == [float(row["result.val_loss"]) for row in expected]
    assert (files / shown["report"]["path"]).read_text() == (folder / "report.html").read_text()
    jobs = [Kept(offline_file(path)) for path in sorted((folder / "jobs").iterdir())]
    assert {job.run.run_group for job in jobs} == {folder.name}
    assert sorted(job.run.display_name for job in jobs) == [
        f"{name}, seed {seed}" for name in ("none", "rotary") for seed in (1, 2)
    ]
    assert not (folder / "metrics.csv").exists()  # a logger without tables is left alone
    assert list((folder / "tensorboard").iterdir())


def test_a_logger_that_is_gone_takes_no_report_away(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "-q", "position=rotary,none", "seed=1,2", "logger=tensorboard", *TINY]) == 0
    [folder] = Path("runs").iterdir()
    (folder / "report.html").unlink()

    def gone(self: object, **options: object) -> None:
        raise UserError("logger=tensorboard needs the tensorboard package")

    monkeypatch.setattr(TensorBoardLogger, "__init__", gone)
    assert main(["compare", f"resume={folder}"]) == 0
    assert "The report is not told to logger 'tensorboard'" in capfd.readouterr().err
    assert (folder / "report.html").is_file()


def test_a_sweep_of_which_nothing_finished(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["position=rotary,none", "seed=1", "optimizer.lr=1e30", *TINY]
    assert main(["compare", *words, "-q"]) == 3
    err = capfd.readouterr().err
    assert err.count("failed, ") == 2
    assert "No job finished. Their logs: runs/" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["position=rotary"], "Nothing differs between the runs."),
        (["experiment=postions"], "Did you mean experiment=positions?"),
        (["position=rotary,none", "model/position=alibi"], "position: varies, and is set as well."),
        (["model.n_heads=2,4", "model.n_heads=2"], "model.n_heads: varies, and is set as well."),
        (["optimizer.lr=1e-3,0.001"], "optimizer.lr=1e-3; optimizer.lr=0.001: are one and the same"),
        (
            ["position=rotary,learned", "model.d_model=12", "model.d_head=3,4"],
            "position=rotary model.d_head=3: model.position: rotary: fraction=1.0 of a head of 3 numbers",
        ),
        (
            ["data=text", "data.path=one.txt", "position=rotary,none"],
            "data.path=one.txt: there is no such file.",
        ),
        (
            ["model.context_length=16,2000000"],
            "model.context_length=2000000: data=shakespeare: the training text is",
        ),
        (["position=rotary,none", "data.val_fraction=0"], "No text is kept for validation"),
        (["position=rotary,nine"], "position=nine: model/position=nine: no such option."),
        (["resume=latest"], "resume=latest is no sweep's folder. Make one with: gptkit compare"),
        (
            ["resume=x", "seed=1,2"],
            "seed=1,2: cannot be changed now. What may be given: metric, baseline, jobs.",
        ),
        (["runs=runs/*", "jobs=2"], "jobs=2: cannot be changed now. What may be given: metric, baseline."),
        (["runs=nothing/*"], "runs=nothing/*: there is no run directory."),
        (["position=rotary,none", "--fast"], "There is no flag '--fast'."),
    ],
)
def test_mistakes(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *words]) == 2
    assert told in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_sweep_is_found_by_a_part_of_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    from gptkit.cli.compare import _sweep

    one = plan(["position=rotary,none", "seed=1", "name=one", *TINY]).create()
    two = plan(["position=rotary,none", "seed=1", "name=two", *TINY]).create()
    assert _sweep("-two-") == two
    assert _sweep(str(one)) == one
    assert _sweep("latest") in (one, two)
    assert main(["compare", "resume=20"]) == 2
    assert "resume=20 stands for 2 sweeps. There are: runs/" in capsys.readouterr().err


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from gptkit.cli import main; main(['compare', '--help'])\n"
        "assert not {'torch', 'scipy', 'matplotlib', 'hydra', 'rich'} & set(sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert max(map(len, told.splitlines())) <= 110
    for word in ("budget=", "match=", "zip=", "resume=", "--dry-run"):
        assert word in told


def test_completion() -> None:
    from gptkit.cli.candidates import candidates

    assert candidates("gptkit compare position=rotary,lea") == ["position=rotary,learned"]
    assert candidates("gptkit compare budget=f") == ["budget=flops:"]
    assert candidates("gptkit compare position=a,b zip=") == ["zip=position"]
    assert "match=" in candidates("gptkit compare mat")
