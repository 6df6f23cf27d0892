"""Whole runs in this process: what they leave, that they are repeatable, and that they resume exactly."""

from __future__ import annotations

import json
import math
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from gptkit.errors import ConfigError
from gptkit.run import Run
from gptkit.train import session as session_module
from gptkit.train.callbacks import Callback
from gptkit.train.fit import fit
from gptkit.train.module import NonFiniteError
from small_runs import change, make, rows, same, tensors, text, trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs lie; one text for all of them."""
    found = tmp_path_factory.mktemp("runs")
    text(found)
    return found


@pytest.fixture(scope="module")
def straight(folder: Path) -> Run:
    """A run of 12 steps that keeps the checkpoint of every step."""
    return trained(folder, trainer__checkpoint_every=1, trainer__keep_checkpoints=50)


def test_a_run_leaves_its_result_and_its_metrics(straight: Run) -> None:
    result = straight.result()
    assert result is not None
    assert result["status"] == straight.status == "finished"
    assert result["steps"] == 12
    assert result["tokens"] == 12 * 8 * 8
    assert result["seed"] == 3
    assert result["tokens_per_second"] == pytest.approx(result["tokens"] / result["seconds"])
    assert result["parameters"] == sum(
        value.numel() for name, value in tensors(straight).items() if name.startswith("model/")
    )
    told = rows(straight)
    assert [row["step"] for row in told] == [2, 4, 5, 6, 8, 10, 12]
    assert [row["step"] for row in told if "val_loss" in row] == [5, 10, 12]
    assert {"loss", "learning_rate", "gradient_norm", "tokens", "seconds", "memory_bytes"} < told[-1].keys()
    assert result["val_loss"] == told[-1]["val_loss"]
    assert result["train_loss"] == told[-1]["loss"]
    assert result["best_val_loss"] == min(row["val_loss"] for row in told if "val_loss" in row)
    assert told[-1]["loss"] < told[0]["loss"]


@pytest.mark.parametrize(
    ("mask", "ahead"),
    [
        ("causal", False),
        (["causal", "sliding_window"], False),
        ("full", True),
        ({"prefix": {"length": 3}}, True),
        ({"explicit": {"matrix": [[int(k <= q) for k in range(8)] for q in range(8)]}}, False),
        ({"explicit": {"matrix": [[int(k <= q + 1) for k in range(8)] for q in range(8)]}}, True),
    ],
)
def test_a_loss_of_tokens_that_were_seen_is_told(
    mask: Any, ahead: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"context_length": 8, "d_model": 16, "n_layers": 1, "n_heads": 2}
    run = trained(folder, trainer__max_steps=1, model={**sizes, "mask": mask})
    assert (run.result() or {})["reads_ahead"] is ahead
    assert ("lets tokens read later ones" in capsys.readouterr().err) is ahead


def test_rates_in_metrics_are_those_of_the_clock(straight: Run) -> None:
    told = [row for row in rows(straight) if "seconds" in row]
    for before, after in pairwise(told):
        rate = (after["tokens"] - before["tokens"]) / (after["seconds"] - before["seconds"])
        assert after["tokens_per_second"] == pytest.approx(rate, rel=1e-6)


def test_the_same_seed_gives_bitwise_the_same_run_and_looking_changes_nothing(
    folder: Path, straight: Run
) -> None:
    """How often one validates, samples, logs and saves is no part of what is trained."""
    again = trained(folder)
    often = trained(
        folder, trainer__eval_every=1, trainer__log_every=1, trainer__checkpoint_every=3,
        trainer__sample_every=4, trainer__sample_tokens=5,
    )  # fmt: skip
    never = trained(folder, trainer__eval_every=None, trainer__log_every=50, trainer__eval_batches=1)
    other = trained(folder, seed=4)
    for run in (again, often, never):
        assert same(tensors(straight), tensors(run))
    assert not same(tensors(straight), tensors(other))
    assert (often.path / "samples.txt").read_text("utf-8").count("=== step ") == 3


class _StopAfter(Callback):
    """Sends this process a signal after a given step, as a scheduler might."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def after_step(self, outcome: Any) -> bool:
        if outcome.step == self.step:
            os.kill(os.getpid(), self.number)
        return False


def stopped(folder: Path, monkeypatch: pytest.MonkeyPatch, step: int, number: int, **changes: Any) -> Run:
    """A run that a signal stops: it arrives after update `step`, and one more is made."""
    from gptkit.train.job import Job

    original = Job.of.__func__  # type: ignore[attr-defined]

    def of(cls: type, *given: Any) -> Job:
        job = original(cls, *given)
        job.callbacks["stop"] = _StopAfter(step - 1, number)
        return job

    monkeypatch.setattr(Job, "of", classmethod(of))
    run = make(folder, **changes)
    result = fit(run)
    monkeypatch.setattr(Job, "of", classmethod(original))
    assert result["status"] == "stopped"
    assert result["signal"] == number
    return run


@pytest.mark.parametrize("step", range(2, 12))
def test_a_run_goes_on_from_any_step_as_if_it_had_not_stopped(
    folder: Path, straight: Run, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    number = signal.SIGTERM if step % 2 else signal.SIGINT
    run = stopped(folder, monkeypatch, step, number)
    if step in (6, 11):
        step -= 1  # it came before the validation of that step, which gives way at once
    assert run.checkpoints.steps() == [step]
    assert same(tensors(run), tensors(straight, step))
    result = fit(run)
    assert result["status"] == "finished"
    assert same(tensors(run), tensors(straight))
    told, expected = rows(run), rows(straight)
    steps = [row["step"] for row in told]
    assert steps == sorted(set(steps))
    assert set(steps) == {row["step"] for row in expected} | {step}
    validated = {row["step"]: row["val_loss"] for row in told if "val_loss" in row}
    assert validated == {row["step"]: row["val_loss"] for row in expected if "val_loss" in row}
    assert told[-1]["tokens"] == expected[-1]["tokens"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_epochs_end_without_a_seam(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is short: every ninth step begins an epoch, and the run is cut around those."""
    little = folder / "little"
    little.mkdir(exist_ok=True)
    text(little, words=145)
    plain = trained(little, trainer__max_steps=24)
    tokens = json.loads((plain.path / "result.json").read_text("utf-8"))["tokens"]
    assert tokens > 2 * (little / "text.txt").stat().st_size
    for step in (8, 9, 10, 11, 18):
        run = stopped(little, monkeypatch, step, signal.SIGTERM, trainer__max_steps=24)
        fit(run)
        assert same(tensors(run), tensors(plain))


def test_a_finished_run_can_be_given_more_steps(folder: Path, straight: Run) -> None:
    run = trained(folder, trainer__max_steps=7)
    change(run, trainer__max_steps=12)
    result = fit(Run(run.path))
    assert result["steps"] == 12
    assert same(tensors(run), tensors(straight))
    again = fit(Run(run.path))  # nothing left to do
    assert again["val_loss"] == result["val_loss"]
    assert [row["step"] for row in rows(run)] == sorted({row["step"] for row in rows(run)})


def test_rows_after_the_checkpoint_are_measured_again(folder: Path, straight: Run) -> None:
    """A kill loses the steps since the last checkpoint; their rows must not stand twice."""
    run = trained(folder, trainer__max_steps=5, trainer__checkpoint_every=5)
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 6, "loss": 99.0}\n{"step": 8, "lo')
    fit(change(run, trainer__max_steps=12))
    assert [row["step"] for row in rows(run)] == [2, 4, 5, 6, 8, 10, 12]
    assert all(row.get("loss", 0) < 10 for row in rows(run))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model__d_model": 32}, "model.d_model"),
        ({"data__batch_size": 4}, "data.batch_size"),
        ({"seed": 5}, "seed"),
    ],
)
def test_another_model_does_not_go_on_from_the_checkpoint(
    folder: Path, changes: dict[str, Any], key: str
) -> None:
    run = trained(folder, trainer__max_steps=2)
    before = tensors(run)
    with pytest.raises(ConfigError, match=key):
        fit(change(run, trainer__max_steps=4, **changes))
    assert same(tensors(run), before)


def test_another_text_does_not_either(tmp_path: Path) -> None:
    run = trained(tmp_path, trainer__max_steps=2)
    text(tmp_path, seed=9)
    with pytest.raises(ConfigError, match=r"data\.path"):
        fit(change(run, trainer__max_steps=4))


def test_a_step_that_is_not_finite_keeps_the_last_good_weights(
    folder: Path, straight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gptkit.train.objectives import NextToken

    calls = []

    def poisoned(self: NextToken, model: Any, batch: Any) -> Any:
        calls.append(model.training)
        total, count = original(self, model, batch)
        return (total * math.nan if sum(calls) == 8 else total), count

    original = NextToken.loss
    monkeypatch.setattr(NextToken, "loss", poisoned)
    run = make(folder)
    with pytest.raises(NonFiniteError, match="Step 8: the loss is nan"):
        fit(run)
    assert run.checkpoints.steps() == [7]
    assert same(tensors(run), tensors(straight, 7))
    result = run.result()
    assert result is not None
    assert result["status"] == run.status == "failed"
    assert "optimizer.lr" in result["error"]
    monkeypatch.undo()
    fit(run)
    assert same(tensors(run), tensors(straight))


def test_no_steps_at_all_still_give_a_model_and_its_loss(folder: Path) -> None:
    run = trained(folder, trainer__max_steps=0)
    assert run.checkpoints.steps() == [0]
    assert [row["step"] for row in rows(run)] == [0]
    result = run.result()
    assert result is not None
    assert result["steps"] == 0
    assert 3 < result["val_loss"] < 7


def test_a_run_without_a_validation_split_has_no_validation(folder: Path) -> None:
    run = trained(folder, data__val_fraction=0.0, trainer__max_steps=5)
    assert not any("val_loss" in row for row in rows(run))
    result = fit(run)
    assert result["status"] == "finished"
    assert result["val_loss"] is None
    assert [row["step"] for row in rows(run)] == [2, 4, 5]


def test_a_validation_that_a_signal_cuts_short_is_made_up_for(
    folder: Path, straight: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = session_module.Session._validate

    def interrupted(self: Any) -> Any:
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self)

    monkeypatch.setattr(session_module.Session, "_validate", interrupted)
    run = make(folder)
    assert fit(run)["status"] == "stopped"
    assert run.checkpoints.steps() == [5]
    assert not any("val_loss" in row for row in rows(run))
    monkeypatch.undo()
    fit(run)
    expected = {row["step"]: row["val_loss"] for row in rows(straight) if "val_loss" in row}
    assert {row["step"]: row["val_loss"] for row in rows(run) if "val_loss" in row} == expected
    steps = [row["step"] for row in rows(run)]
    assert steps == sorted(set(steps))


def test_ctrl_c_before_the_first_step_is_no_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gptkit.train import launch as launch_module
    from gptkit.train.job import Job

    def interrupted(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Job, "make_model", interrupted)
    run = make(folder)
    assert launch_module.launch(run) == 130
    assert run.status == "stopped"
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_run_that_has_had_enough_ends_as_a_finished_one(folder: Path) -> None:
    run = trained(folder, callback={"time_limit": {"minutes": 0.0}}, trainer__max_steps=1000)
    result = run.result()
    assert result is not None
    assert result["status"] == "finished"
    assert result["steps"] == 2
    assert result["val_loss"] is not None
    assert run.checkpoints.steps() == [2]


def test_two_models_that_differ_in_one_part_start_equal_elsewhere_and_read_the_same(folder: Path) -> None:
    seen: dict[str, list[torch.Tensor]] = {}
    first: dict[str, dict[str, torch.Tensor]] = {}
    for position in ("learned", "sinusoidal"):
        run = trained(folder, model__position={"name": position}, trainer__max_steps=0)
        first[position] = tensors(run)
        from gptkit.text.shards import prepare
        from gptkit.train.job import Job
        from gptkit.train.world import World

        job = Job.of(run, run.config(), prepare(run.config()), World(), lambda: 0)
        seen[position] = [job.make_batches(0).at(step).tokens for step in range(5)]
    shared = first["learned"].keys() & first["sinusoidal"].keys()
    assert len(shared) > 10
    assert all(torch.equal(first["learned"][name], first["sinusoidal"][name]) for name in shared)
    assert all(torch.equal(a, b) for a, b in zip(seen["learned"], seen["sinusoidal"], strict=True))


def test_a_config_written_by_hand_may_leave_things_out(tmp_path: Path) -> None:
    from gptkit import run as run_directory

    path = text(tmp_path)
    config = {
        "model": {"context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2},
        "data": {"name": "text", "path": str(path)},
        "tokenizer": {"name": "byte"},
        "trainer": {"max_steps": 2, "sample_tokens": 3},
        "accelerator": "cpu",
    }
    run = run_directory.create(config, root=tmp_path)
    result = fit(run)
    assert result["status"] == "finished"
    assert result["seed"] == 1337
    assert "curve.svg" in {entry.name for entry in run.path.iterdir()}
    assert (run.path / "samples.txt").read_text("utf-8").startswith("=== step 2 ===\n")
