"""The average against a plain sum, beside several optimizers, cut in two, and over two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import gptkit
from gptkit import registry
from gptkit.errors import ConfigError
from gptkit.train.fit import fit
from gptkit.train.launch import launch
from gptkit.train.meter import StepOutcome
from small_runs import change, make, rows, same, tensors, trained  # pyright: ignore[reportMissingImports]
from tiny import tiny  # pyright: ignore[reportMissingImports]

Ema: Any = registry.load("callback", "ema")
AVERAGED: dict[str, Any] = {"callback": {"ema": {"decay": 0.8}}}
OPTIMIZERS = [
    {"name": "adamw", "lr": 0.01},
    *({"name": name} for name in ("muon", "schedule_free") if name in registry.names("optimizer")),
]


def outcome(step: int) -> StepOutcome:
    return StepOutcome(step, 0.0, 1, 0.0, 0.0, None)  # type: ignore[arg-type]


def test_the_average_is_its_formula() -> None:
    model, average = tiny(), Ema(decay=0.75)
    average.start(model, [])
    history: dict[str, list[torch.Tensor]] = {name: [] for name, _ in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 10):
        for name, p in model.named_parameters():
            p.data.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
            history[name].append(p.detach().clone())
        assert average.after_step(outcome(step)) is False
        average.eval()
        for name, p in model.named_parameters():
            # The mean of the first four, whose share then shrinks by 3/4 at each update.
            early, late = history[name][:4], history[name][4:]
            expected = sum(early) / len(early) * 0.75 ** len(late)  # type: ignore[operator]
            expected = expected + sum(0.25 * 0.75 ** (len(late) - 1 - i) * w for i, w in enumerate(late))
            assert (p.detach() - expected).abs().max() < 1e-12
        average.train()
        assert all(torch.equal(p, history[name][-1]) for name, p in model.named_parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda node: node["name"])
def test_training_does_not_notice_and_what_is_judged_saved_and_loaded_is_the_average(
    tmp_path: Path, optimizer: dict[str, Any]
) -> None:
    every = {"optimizer": optimizer, "trainer__checkpoint_every": 1, "trainer__keep_checkpoints": 20}
    plain, run = trained(tmp_path, **every), trained(tmp_path, **every, **AVERAGED)
    average: dict[str, torch.Tensor] = {}
    held: dict[str, torch.Tensor] = {}
    for step in range(1, 13):
        theirs, held = tensors(plain, step), tensors(run, step)
        names = [name.removeprefix("model/") for name in theirs if name.startswith("model/")]
        for name in names:
            # What its optimizer would have used; schedule-free learning trains others still.
            assert torch.equal(held[f"callback/ema/trained/{name}"], theirs[f"model/{name}"])
        for key in theirs:
            if key.startswith("optimizer/"):
                assert torch.equal(theirs[key], held[key])
        if optimizer["name"] != "schedule_free":
            for name in names:
                weight = theirs[f"model/{name}"].double()
                before = average.get(name, weight)
                average[name] = before + (weight - before) * max(0.2, 1 / step)
                assert (held[f"model/{name}"] - average[name]).abs().max() < 1e-6
    told, expected = rows(run)[-1], rows(plain)[-1]
    assert told["loss"] == expected["loss"]
    assert told["val_loss"] != expected["val_loss"]
    model = gptkit.load(run.path)
    for name, weight in model.named_parameters():
        assert torch.equal(weight.detach(), held[f"model/{name}"])
    assert told["val_loss"] == pytest.approx(_val_loss(run, model), abs=1e-6)


def _val_loss(run: Any, model: Any) -> float:
    """The validation loss of a loaded model, worked out without the session."""
    from gptkit.text.shards import prepare
    from gptkit.train.agreement import Agreement
    from gptkit.train.data import Documents
    from gptkit.train.evaluate import Evaluator

    data = prepare(run.config(), run.path / "tokenizer")
    score = Evaluator(
        data.splits["val"],
        8,
        8,
        Agreement(lambda: 0),
        batches=3,
        token_bytes=data.tokenizer.token_bytes,
    )
    found = score(model, Documents(model, data.tokenizer.end_of_text), torch.device("cpu"))
    assert found is not None
    return found.loss


def test_samples_are_drawn_from_the_average(tmp_path: Path) -> None:
    long = {
        "trainer__sample_tokens": 60,
        "trainer__max_steps": 40,
        "optimizer": {"name": "adamw", "lr": 0.03},
    }
    run, plain = trained(tmp_path, **long, **AVERAGED), trained(tmp_path, **long)
    drawn = (run.path / "samples.txt").read_text("utf-8")
    assert drawn != (plain.path / "samples.txt").read_text("utf-8")
    from gptkit.train.sample import sample_text

    model = gptkit.load(run.path)
    assert sample_text(model, model.tokenizer, run.config()) in drawn


@pytest.mark.parametrize("cut", [1, 5])
def test_a_run_cut_in_two_ends_as_one_in_a_piece(tmp_path: Path, cut: int) -> None:
    straight = trained(tmp_path, **AVERAGED)
    run = trained(tmp_path, **AVERAGED, trainer__max_steps=cut, trainer__eval_every=2)
    fit(change(run, trainer__max_steps=12))
    assert same(tensors(straight), tensors(run))
    assert rows(run)[-1]["val_loss"] == rows(straight)[-1]["val_loss"]


def test_two_processes_keep_the_average_of_one_and_one_goes_on_from_two(tmp_path: Path) -> None:
    ours = {
        **AVERAGED, "trainer__micro_batch_size": 4, "trainer__eval_every": 2, "schedule__warmup_steps": 0,
        "model__attention": {"name": "multi_head", "bias": False, "dropout": 0.1}, "optimizer__lr": 1e-3,
    }  # fmt: skip
    alone = trained(tmp_path, **ours)
    for strategy in ("ddp", "fsdp"):
        run = make(tmp_path, **ours, devices=2, trainer__strategy=strategy, trainer__max_steps=6)
        assert launch(run) == 0
        fit(change(run, devices=1, trainer__strategy="auto", trainer__max_steps=12))
        one, two = tensors(alone), tensors(run)
        assert one.keys() == two.keys()
        assert max((one[name].double() - two[name].double()).abs().max().item() for name in one) < 1e-6
        for mine, theirs in zip(rows(run), rows(alone), strict=True):
            for key in ("loss", "val_loss"):
                if key in theirs:
                    assert mine[key] == pytest.approx(theirs[key], abs=1e-6), (strategy, mine["step"], key)


def test_what_cannot_be_is_refused() -> None:
    for decay in (1.0, -0.1):
        with pytest.raises(ConfigError, match=r"callback\.ema\.decay"):
            Ema(decay=decay)


def test_a_config_that_has_it_as_an_optimizer_is_told_where_it_is(tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    old.write_text("optimizer:\n  name: ema\n  decay: 0.99\n")
    for word in ("optimizer=ema", f"config={old}"):
        with pytest.raises(ConfigError, match=r"optimizer=ema: no such option\. Did you mean callback=ema\?"):
            gptkit.compose([word])
