"""From a folder to a GPT and back: the same weights, the same answers, or an error that names the reason."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import faults
import gptkit
import small_runs
from gptkit.errors import CheckpointError, ConfigError, RunError
from gptkit.model.gpt import GPT
from gptkit.run import Run, create
from gptkit.train.store import CheckpointStore

MODEL: dict[str, Any] = {
    "context_length": 8, "d_model": 16, "n_layers": 2, "n_heads": 2, "vocab_size": 11,
    "position": "sinusoidal", "mask": "causal",
}  # fmt: skip
TOKENS = torch.arange(8).unsqueeze(0)


def a_model(**model: Any) -> GPT:
    return gptkit.build({"seed": 5, "model": {**MODEL, **model}}).eval()


def a_run(folder: Path, *steps: int, **model: Any) -> tuple[Run, dict[int, GPT]]:
    """A run with checkpoints, and the models that they hold."""
    config = {"seed": 5, "model": {**MODEL, **model}}
    run = create(config, [], folder / "runs")
    models = {}
    for step in steps:
        models[step] = gptkit.build({**config, "seed": step}).eval()
        tensors = {"model": models[step].state_dict(), "optimizer": {"m": torch.zeros(3)}}
        run.checkpoints.save(step, tensors, {"step": step})
    return run, models


def alike(one: GPT, other: GPT) -> bool:
    with torch.no_grad():
        return torch.equal(one(TOKENS), other(TOKENS))


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"position": "learned", "head": {"name": "language_model", "tied": False, "bias": True}},
        {"position": "rotary", "n_kv_heads": 1, "attention": "grouped_query"},
        {"position": "alibi", "layers": {"1": {"position": "none", "mask": "full"}}},
        {"n_layers": 0},
    ],
    ids=str,
)
def test_a_model_saved_and_loaded_is_the_same(tmp_path: Path, model: dict[str, Any]) -> None:
    made = a_model(**model)
    place = gptkit.save(made, tmp_path / "modèle")
    assert sorted(os.listdir(place)) == ["config.json", "env.json", "manifest.json", "model.safetensors"]
    loaded = gptkit.load(place)
    assert alike(made, loaded)
    assert not loaded.training
    assert {n: p.data_ptr() for n, p in loaded.named_parameters()}.keys() == dict(
        made.named_parameters()
    ).keys()
    again = gptkit.save(loaded, tmp_path / "again")
    assert (again / "model.safetensors").read_bytes() == (place / "model.safetensors").read_bytes()
    assert (again / "config.json").read_bytes() == (place / "config.json").read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_of_the_weights_is_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    made = a_model(position="learned").to(dtype)
    loaded = gptkit.load(gptkit.save(made, tmp_path / "m"))
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    assert alike(made, loaded)


def test_a_run_gives_its_newest_checkpoint_or_the_one_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, models = a_run(tmp_path, 1, 12)
    monkeypatch.chdir(tmp_path)
    for spec in (run.path, str(run.path), run.path.name[-6:], "latest"):
        assert alike(gptkit.load(spec), models[12])
    assert alike(gptkit.load(), models[12])
    assert alike(gptkit.load(run.path, step=1), models[1])
    assert alike(gptkit.load(run.path / "checkpoints/step-000001"), models[1])
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7 .* 1, 12"):
        gptkit.load(run.path, step=7)


def test_a_damaged_newest_checkpoint_is_stepped_over_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, models = a_run(tmp_path, 1, 2)
    victim = run.path / "checkpoints/step-000002/model.safetensors"
    victim.write_bytes(victim.read_bytes()[:-1])
    before = sorted(os.listdir(run.path / "checkpoints"))
    with caplog.at_level(logging.WARNING):
        assert alike(gptkit.load(run.path), models[1])
    assert "step-000002 is damaged: model.safetensors has" in caplog.text
    assert "Loaded step 1 instead" in caplog.text
    assert sorted(os.listdir(run.path / "checkpoints")) == before, "loading changes nothing"


def test_loading_touches_no_file(tmp_path: Path) -> None:
    run, _ = a_run(tmp_path, 1)
    seen: list[str] = []

    def no_writing(number: int, name: str, arguments: tuple) -> None:
        if name == "open":
            assert not arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), arguments
        elif name != "close":
            seen.append(name)

    with faults.watched(no_writing):
        gptkit.load(run.path)
    assert seen == []


def change(place: Path, **model: Any) -> None:
    config = json.loads((place / "config.json").read_text())
    config["model"].update(model)
    (place / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"n_layers": 3}, r"blocks\.2\..* is missing"),
        ({"n_layers": 1}, r"blocks\.1\..* belongs to no part of the model"),
        ({"d_ff": 8}, r"up\.weight is \(64, 16\), the model's is \(8, 16\)"),
        ({"vocab_size": 12}, r"embedding\.weight is \(11, 16\), the model's is \(12, 16\)"),
        ({"position": {"name": "learned"}}, r"position\S* is missing"),
        ({"d_model": 10**6}, r"the model's is \(.*1000000"),
        ({"n_layers": 10**9}, "asks for 1,000,000,000 layers"),
        ({"d_model": 10**9}, "cannot be built with these sizes"),
        ({"d_model": 10**30, "n_heads": 1}, "cannot be built with these sizes"),
        ({"n_heads": 3}, "cannot be split into 3 heads"),
    ],
)
def test_weights_of_another_model_are_refused_by_name(
    tmp_path: Path, model: dict[str, Any], said: str
) -> None:
    place = gptkit.save(a_model(), tmp_path / "m")
    change(place, **model)
    with pytest.raises((CheckpointError, ConfigError), match=said):
        gptkit.load(place)


def test_damage_to_a_model_directory_is_found(tmp_path: Path) -> None:
    place = gptkit.save(a_model(), tmp_path / "m")
    data = bytearray((place / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (place / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"is damaged: model.safetensors was changed"):
        gptkit.load(place)
    (place / "manifest.json").unlink()
    gptkit.load(place)  # a directory made elsewhere may have no digests


def test_no_weights(tmp_path: Path) -> None:
    run, _ = a_run(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds neither model.safetensors nor checkpoints/"):
        gptkit.load(run.path)
    torch.save({}, run.path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin may be a pickle.*never loads one"):
        gptkit.load(run.path)


def test_a_place_that_is_taken_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(RunError, match="is there already"):
        gptkit.save(a_model(), tmp_path / "m")
    made = a_model()
    made.config = None
    with pytest.raises(RunError, match="has no config"):
        gptkit.save(made, tmp_path / "n")


def test_a_refusal_or_a_kill_while_saving_leaves_nothing_that_loads(tmp_path: Path) -> None:
    made = a_model()
    place = tmp_path / "out/m"
    gptkit.save(made, place)
    shutil.rmtree(place)
    count = len(faults.operations(lambda: gptkit.save(made, place), faults.FULL))
    shutil.rmtree(place)
    for at in range(1, count + 1):

        def refuse(n: int, name: str, arguments: tuple, at: int = at) -> None:
            if n == at:
                raise OSError(28, "No space left on device")

        with faults.watched(refuse, faults.FULL), pytest.raises(RunError, match="the disk is full"):
            gptkit.save(made, place)
        if place.exists():  # all was written; only the name may not outlast a power cut
            assert alike(gptkit.load(place), made)
            shutil.rmtree(place)
        assert os.listdir(place.parent) == []
    for at in range(1, count, 7):
        assert faults.killed_at(at, lambda: gptkit.save(made, place))
        assert not place.exists() or alike(gptkit.load(place), made)
        shutil.rmtree(place.parent)


def test_a_loaded_model_does_not_hang_on_its_files(tmp_path: Path) -> None:
    made = a_model()
    place = gptkit.save(made, tmp_path / "m")
    loaded = gptkit.load(place)
    size = (place / "model.safetensors").stat().st_size
    (place / "model.safetensors").write_bytes(bytes(size))
    assert alike(loaded, made)


def test_the_store_of_a_run_and_a_store_of_its_folder_agree(tmp_path: Path) -> None:
    run, _ = a_run(tmp_path, 3)
    found = CheckpointStore(run.path / "checkpoints").load()
    assert found.state == {"step": 3}
    assert found.tensors.keys() == {"model", "optimizer"}


@pytest.mark.parametrize("name", ["byte", "char"])
def test_build_takes_the_vocabulary_from_the_tokenizer(tmp_path: Path, name: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question. " * 40)
    config = {
        "seed": 1,
        "model": {**MODEL, "vocab_size": None},
        "tokenizer": name,
        "data": {"name": "text", "path": str(text), "val_fraction": 0.1, "batch_size": 2},
    }
    made = gptkit.build(config)
    assert made.tokenizer is not None
    assert made.shape.vocab_size == made.tokenizer.vocab_size
    place = gptkit.save(made, tmp_path / "m")
    loaded = gptkit.load(place)
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.fingerprint() == made.tokenizer.fingerprint()
    assert loaded.tokenizer.encode("to be") == made.tokenizer.encode("to be")
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), loaded.parameters(), strict=True))


def test_build_reports_every_problem_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        gptkit.build({"model": {**MODEL, "position": "rotory", "d_modle": 3}, "sead": 1})
    assert len(error.value.problems) == 3


@pytest.mark.parametrize("given", [5, None, "model=gpt2"])
def test_what_is_no_config_is_not_built(given: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"expected a config, which is a group of keys, got .*\. gptkit.compose makes one"
    ):
        gptkit.build(given)


@pytest.mark.parametrize("given", [3, None, {"model": {}}])
def test_what_is_no_path_is_not_loaded(given: Any) -> None:
    with pytest.raises(RunError, match="by its path or by a run's name, such as 'latest'; this is "):
        gptkit.load(given)


def test_a_trained_run_loads_with_its_tokenizer(tmp_path: Path) -> None:
    run = small_runs.trained(tmp_path, trainer__max_steps=3)
    assert run.status == "finished"
    loaded = gptkit.load("latest", root=tmp_path / "runs")
    held = run.checkpoints.load().tensors["model"]
    assert all(torch.equal(tensor, held[name]) for name, tensor in loaded.state_dict().items())
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("the queen")) == "the queen"
    assert loaded.config is not None
    assert loaded.config["model"]["d_model"] == loaded.shape.d_model
    exported = gptkit.load(gptkit.save(loaded, tmp_path / "exported"))
    assert alike(loaded, exported)
