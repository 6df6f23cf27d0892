"""`gptkit train`: new runs, dry runs, runs that go on, and what may not be changed then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gptkit
from gptkit import run as runs
from gptkit.cli import main
from gptkit.composing.yaml_file import parse

SMOKE = ["debug=smoke", "tokenizer=byte", "trainer.sample_tokens=4"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def the_run(folder: Path) -> runs.Run:
    [place] = (folder / "runs").iterdir()
    return runs.Run(place)


def test_a_dry_run_prints_the_config_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--dry-run", "position=rotary"]) == 0
    assert parse(capsys.readouterr().out) == gptkit.compose(["position=rotary"])
    assert main(["train", "--dry-run", "--json", "seed=3"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 3
    assert list(here.iterdir()) == []


def test_a_run_and_how_it_goes_on(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMOKE, "position=rotary"]) == 0
    out, err = capfd.readouterr()
    run = the_run(here)
    assert f"Training runs/{run.name}" in err
    assert "validation loss" in out
    assert f"runs/{run.name}" in out
    assert (run.path / "overrides.txt").read_text().splitlines() == [*SMOKE, "model/position=rotary"]
    assert run.config() == gptkit.compose([*SMOKE, "position=rotary"])

    assert main(["train", "resume=latest"]) == 2
    assert (
        "is finished: it took all 4 steps. To train longer, add trainer.max_steps=8."
        in capfd.readouterr().err
    )

    changes = ["model.n_layers=3", "position=none", "seed=2", "trainer.max_steps=6"]
    assert main(["train", "resume=latest", *changes]) == 2
    err = capfd.readouterr().err
    assert "seed: the run was trained with 1337, and cannot go on with 2." in err
    assert "model.n_layers: the run was trained with 2, and cannot go on with 3." in err
    assert "model.position.name: the run was trained with 'rotary', and cannot go on with 'none'." in err
    assert "max_steps" not in err
    assert run.config()["trainer"]["max_steps"] == 4

    assert main(["train", "resume=latest", "trainer.max_stepz=6"]) == 2
    assert "trainer.max_stepz: no such key. Did you mean trainer.max_steps?" in capfd.readouterr().err

    assert (
        main(
            [
                "train",
                "--json",
                f"resume={run.name}",
                "trainer.max_steps=6",
                "logger=csv",
                "optimizer.lr=1e-4",
            ]
        )
        == 0
    )
    result = json.loads(capfd.readouterr().out)
    assert (result["status"], result["steps"]) == ("finished", 6)
    assert Path(result["path"]).resolve() == run.path.resolve()
    assert (run.path / "metrics.csv").is_file()
    assert run.config()["logger"] == {"csv": {}}
    assert (run.path / "overrides.txt").read_text().splitlines()[-3:] == [
        "trainer.max_steps=6", "logger=csv", "optimizer.lr=1e-4",
    ]  # fmt: skip


def test_quietly(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-q", *SMOKE, "trainer.max_steps=2"]) == 0
    assert capfd.readouterr() == ("", "")
    assert the_run(here).result() is not None


def test_what_is_not_there_is_told_before_a_folder_is_made(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("there is a CUDA device")
    assert main(["train", *SMOKE, "accelerator=cuda"]) == 2
    assert "torch sees no CUDA device" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_several_processes_under_torchrun_make_one_run(here: Path) -> None:
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "gptkit",
    ]
    words = ["train", "-q", *SMOKE, "devices=auto", "trainer=ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *words], capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    result = the_run(here).result()
    assert result is not None
    assert (result["status"], result["devices"]) == ("finished", 2)


def test_a_typo_under_torchrun_is_told_once(here: Path) -> None:
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "gptkit",
    ]
    done = subprocess.run([*launcher, "train", "seeed=2"], capture_output=True, text=True, timeout=200)
    assert done.returncode != 0
    assert done.stderr.count("seeed: no such key. Did you mean seed?") == 1
    assert not (here / "runs").exists()


def test_a_reader_that_goes_takes_nothing_of_the_run_with_it(here: Path) -> None:
    words = " ".join([*SMOKE, "trainer.max_steps=40", "trainer.log_every=1", "logger=none"])
    command = f"{sys.executable} -m gptkit train {words} 2>&1 | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    result = the_run(here).result()
    assert result is not None
    assert (result["status"], result["steps"]) == ("finished", 40)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sampler.top_p=3"], "sampler.top_p: expected a number from 0 to 1"),
        (["data=text", "data.path=none.txt"], "data.path=none.txt: there is no such file."),
        (["tokenizer=gpt2", "model.vocab_size=10"], "10 rows cannot hold the tokenizer's 50257 tokens"),
        (["position=learned", "model.position.max_positions=8"], "more than the 8 positions"),
        (["optimizer.lr=-1", "schedule.warmup_steps=-1"], "optimizer.lr: expected a number of at least 0"),
        (["model.init.std=-1"], "model.init.std: expected a number of at least 0, got -1."),
        (
            ["logger=wandb", "logger.wandb.finish_timeout=-1"],
            "logger.wandb.finish_timeout: expected a number",
        ),
        (["+callback=time_limit", "callback.time_limit.minutes=-1"], "callback.time_limit.minutes: expected"),
        (
            ["trainer.gradient_clip=0"],
            "trainer.gradient_clip: expected a number above 0, got 0. null does not",
        ),
        (["seed=99999999999999999999"], "seed: expected a number of 64 bits"),
        (["optimizer.lr=nan"], "optimizer.lr: expected a finite number"),
    ],
)
def test_what_cannot_be_trained_is_told_before_a_folder_is_made(
    words: list[str], told: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "debug=smoke", *words]) == 2
    assert told in capsys.readouterr().err
    assert not (here / "runs").exists()
    assert main(["config", "validate", "debug=smoke", *words]) == 2


def test_latest_passes_over_a_run_that_failed_at_once(here: Path) -> None:
    assert main(["train", "-q", *SMOKE, "trainer.max_steps=2"]) == 0
    first = the_run(here)
    broken = runs.create(first.config(), [], here / "runs")
    broken.write_json("result.json", {"status": "failed", "error": "the text was gone"})
    assert main(["train", "-q", "resume=latest", "trainer.max_steps=4"]) == 0
    result = first.result()
    assert result is not None
    assert result["steps"] == 4
    assert main(["train", "-q", f"resume={first.name}", "trainer.max_steps=3"]) == 2
