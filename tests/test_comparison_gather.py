"""`gptkit.compare.gather`: what runs left, a sweep's or any others."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import gptkit
from gptkit.compare.gather import gather, gather_runs
from gptkit.compare.plan import plan
from gptkit.errors import RunError

TINY = ["debug=smoke", "tokenizer=byte"]
RESULT = {"status": "finished", "val_loss": 2.5, "steps": 4}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(place: Path, config: dict[str, Any], result: dict[str, Any] | None = RESULT, rows: int = 2) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    lines = [json.dumps({"step": step, "loss": 3.0, "val_loss": 2.5}) for step in range(1, rows + 1)]
    (place / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if result is not None:
        (place / "result.json").write_text(json.dumps(result))
    return place


def test_a_sweep_half_done() -> None:
    made = plan(["position=rotary,none", "seed=1,2", *TINY])
    folder = made.create()
    jobs = folder / "jobs"
    write(jobs / "000", made.configs[0], {**RESULT, "val_loss": 2.25})
    (jobs / "000/measures.json").write_text('{"cost": {"parameters": 5}}')
    write(jobs / "001", made.configs[1], {"status": "failed", "error": "the loss is NaN"})
    (jobs / "002/checkpoints").mkdir()
    (jobs / "002/checkpoints/.lock").touch()
    (jobs / "002/log.txt").write_text("first\nKilled\n")

    found = gather(folder)
    assert (found.varied, found.command, found.seeds) == (["position"], made.command, [1, 2])
    assert found.labels == ["rotary", "none"]
    assert [run.status for run in found.runs] == ["finished", "failed", "lost", "new"]
    assert [run.error for run in found.runs] == ["", "the loss is NaN", "first\nKilled", ""]
    assert found.scores() == {"rotary": {1: 2.25}, "none": {}}
    assert found.runs[0].measures == {"cost": {"parameters": 5}}
    assert [row["step"] for row in found.runs[0].rows] == [1, 2]
    assert found.runs[3].config["model"]["position"]["name"] == "none"
    assert found.sweep["format"] == 1


def test_a_folder_without_a_sweep(here: Path) -> None:
    folder = plan(["position=rotary,none", *TINY]).create()
    with pytest.raises(RunError) as caught:
        gather(here / "runs")
    assert "it has no sweep.json" in str(caught.value)
    assert folder.name in str(caught.value)
    (here / "broken").mkdir()
    (here / "broken/sweep.json").write_text('{"points": [{"number": 0}]}')
    with pytest.raises(RunError, match=r"sweep.json cannot be used: KeyError"):
        gather(here / "broken")


def test_old_runs_are_told_apart_by_their_configs(here: Path) -> None:
    for number, words in enumerate(
        (
            ["position=rotary", "seed=1"],
            ["position=rotary", "seed=2", "trainer.log_every=3", "name=other", "logger=csv"],
            ["position=learned", "seed=1"],
            ["position=learned", "seed=2"],
        )
    ):
        write(here / "runs" / f"r{number}", gptkit.compose([*TINY, *words]), {**RESULT, "val_loss": number})
    found = gather_runs("runs/*")
    assert found.varied == ["position"]
    assert found.scores("val_loss") == {"rotary": {1: 0, 2: 1}, "learned": {1: 2, 2: 3}}
    assert found.folder.parent == Path("runs")
    assert not found.folder.exists()
    assert gather_runs("runs").labels == ["rotary", "learned"]
    assert [run.path for run in gather_runs(["runs/r2", here / "runs" / "r0"]).runs] == [
        Path("runs/r2"),
        here / "runs" / "r0",
    ]


def test_options_values_and_masks_that_vary(here: Path) -> None:
    words = (
        ["position=rotary", "model.n_heads=2"],
        ["position=rotary", "model.n_heads=4", "model.position.base=500"],
        ["position=none", "model.n_heads=2", "mask=[causal,sliding_window]"],
    )
    for number, more in enumerate(words):
        write(here / f"r{number}", gptkit.compose([*TINY, *more]))
    found = gather_runs("r*")
    assert set(found.varied) == {"position", "model.n_heads", "model.position.base", "mask"}
    first, second, third = (dict(run.point.variant) for run in found.runs)
    assert first == {
        "model.n_heads": "2",
        "position": "rotary",
        "model.position.base": "10000.0",
        "mask": "causal",
    }
    assert second["model.position.base"] == "500"
    assert third["mask"] == "causal+sliding_window"
    assert "model.position.base" not in third


def test_what_follows_from_the_seed_makes_no_variant(here: Path) -> None:
    words = [(position, seed) for position in ("rotary", "none") for seed in (1, 2)]
    for number, (position, seed) in enumerate(words):
        told = [f"position={position}", f"seed={seed}", "data.val_fold=${seed}"]
        write(here / f"r{number}", gptkit.compose([*TINY, *told]))
    assert gather_runs("r*").varied == ["position"]
    assert gather_runs(["r0", "r1"]).varied == []
    write(here / "r4", gptkit.compose([*TINY, "position=none", "seed=2", "data.val_fold=5"]))
    assert gather_runs("r*").varied == ["position", "data.val_fold"]


def test_other_values_for_each_seed_make_no_variant_where_variants_share_seeds(here: Path) -> None:
    words = [(position, seed) for position in ("rotary", "none") for seed in (1, 2)]
    for number, (position, seed) in enumerate(words):
        told = [f"position={position}", f"seed={seed}", f"data.val_fold={seed + 4}"]
        write(here / f"r{number}", gptkit.compose([*TINY, *told]))
    assert gather_runs("r*").varied == ["position"]


def test_what_differs_with_the_seed_alone_is_a_variant_where_no_seed_is_shared(here: Path) -> None:
    for seed in (1, 2):
        write(here / f"r{seed}", gptkit.compose([*TINY, f"seed={seed}", f"optimizer.lr={seed}e-3"]))
    assert gather_runs("r*").varied == ["optimizer.lr"]


def test_an_option_that_comes_with_a_part_is_not_named(here: Path) -> None:
    for number, norm in enumerate(("layer", "rms", "none")):
        write(here / f"r{number}", gptkit.compose([*TINY, f"norm={norm}"]))
    assert gather_runs("r*").varied == ["norm"]


def test_equal_runs_are_one_variant(here: Path) -> None:
    for seed in (1, 2):
        write(here / f"r{seed}", gptkit.compose([*TINY, f"seed={seed}"]))
    found = gather_runs("r*")
    assert (found.varied, len(found.labels), found.seeds) == ([], 1, [1, 2])


def test_a_sweep_given_as_old_runs() -> None:
    made = plan(["position=rotary,none", "seed=1", *TINY])
    folder = made.create()
    for number, config in enumerate(made.configs):
        write(folder / "jobs" / f"{number:03d}", config)
    assert gather_runs(folder).scores() == gather(folder).scores() == {"rotary": {1: 2.5}, "none": {1: 2.5}}


def test_no_runs(here: Path) -> None:
    with pytest.raises(RunError, match=r"runs=nowhere/\*: there is no run directory"):
        gather_runs("nowhere/*")


def test_what_cannot_be_read_counts_as_missing(here: Path) -> None:
    place = write(here / "r0", gptkit.compose(TINY))
    write(here / "r1", gptkit.compose([*TINY, "position=none"]))
    (place / "result.json").write_text('{"status": "fin')
    (place / "measures.json").write_text("[1]")
    with (place / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    run = gather_runs("r*").runs[0]
    assert (run.status, run.result, run.measures, len(run.rows)) == ("lost", {}, {}, 2)


def test_a_thousand_runs_are_read_quickly_and_without_torch(here: Path) -> None:
    config = gptkit.compose([*TINY, "position=rotary"])
    for number in range(1000):
        own = copy.deepcopy(config)
        own["seed"], own["optimizer"]["lr"] = number % 10, 0.001 * (number // 10 + 1)
        write(here / "runs" / f"r{number:04d}", own, rows=100)
    code = (
        "import sys; from gptkit.compare.gather import gather_runs\n"
        "found = gather_runs('runs/*')\n"
        "assert len(found.runs) == 1000 and len(found.labels) == 100 and found.varied == ['optimizer.lr']\n"
        "assert 'torch' not in sys.modules"
    )
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
    assert time.perf_counter() - began < 15
