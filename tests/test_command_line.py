"""The command line as a user meets it: real processes, and the same verbs called in this one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gptkit.cli import main, verbs
from gptkit.compose import compose
from gptkit.errors import ConfigError

TINY = [
    "model.context_length=8", "model.d_model=16", "model.n_layers=1", "model.n_heads=2", "tokenizer=byte", "devices=1",
    "logger=none", "trainer.sample_tokens=8", "trainer.eval_batches=2", "trainer.threads=1",
]  # fmt: skip


def python(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)


def test_help_needs_nothing_heavy() -> None:
    code = "import sys; from gptkit.cli import main; main(['--help']); print(sorted(sys.modules))"
    done = python("-c", code)
    assert done.returncode == 0
    assert "train" in done.stdout
    for heavy in ("torch", "hydra", "lightning", "wandb", "tiktoken", "numpy", "rich"):
        assert f"'{heavy}'" not in done.stdout


def test_a_typo_is_answered_without_torch() -> None:
    code = (
        "import sys; from gptkit.cli import main; code = main(['train', 'position=rotery', 'model.n_head=8']);"
        "assert 'torch' not in sys.modules; raise SystemExit(code)"
    )
    done = python("-c", code)
    assert done.returncode == 2
    assert "Did you mean model/position=rotary?" in done.stderr
    assert "n_heads" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("positon=rotary", "position"),
        ("model/positon=rotary", "model/position"),
        ("position=rotery", "rotary"),
        ("modle=gpt2", "model"),
        ("model=gtp2", "gpt2"),
        ("n_heads=3", "model.n_heads"),
        ("model.n_head=3", "n_heads"),
        ("trainer.max_step=3", "max_steps"),
        ("optimizer.lrr=1", "lr"),
        ("model.n_heads=many", "whole number"),
        ("model.bias=perhaps", "true or false"),
        ("mask=[causal,slidin_window]", "sliding_window"),
        ("data=text", "data.path"),
        ("data.path=x.txt", "data=text"),
        ("model.n_heads=5", "d_model=128"),
        ("model.n_kv_heads=3", "query heads"),
        ("trainer.strategy=dpp", "ddp"),
        ("model._target_=os.system", "never names code"),
        ("+model.position.foo=1", "foo"),
        ("data.val_fraction=2", "val_fraction"),
    ],
)
def test_mistakes_are_named(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--dry-run", *words.split()]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


def test_a_mistake_inside_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("model:\n  n_layer: 3\ntrainer:\n  max_steps: soon\n", "utf-8")
    with pytest.raises(ConfigError) as caught:
        compose([f"config={file}"])
    assert "n_layers" in str(caught.value)
    assert "max_steps" in str(caught.value)


def test_an_unknown_command_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err
    assert main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) < 24


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_command_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"gptkit {verb}" in capsys.readouterr().out


def test_train_resume_generate_next_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, "trainer.max_steps=6"]) == 0
    folder = next((tmp_path / "runs").iterdir())
    result = json.loads((folder / "result.json").read_text("utf-8"))
    wanted = "status val_loss val_bits_per_byte steps tokens seconds tokens_per_second parameters seed"
    assert set(wanted.split()) <= result.keys()
    assert result["steps"] == 6
    assert folder.name in capsys.readouterr().out
    assert main(["train", "resume=latest"]) == 2
    assert "is finished" in capsys.readouterr().err
    assert main(["train", "resume=latest", "trainer.max_steps=9"]) == 0
    assert json.loads((folder / "result.json").read_text("utf-8"))["steps"] == 9
    assert main(["train", "resume=latest", "trainer.max_steps=12", "model.d_model=32"]) == 2
    capsys.readouterr()
    assert main(["generate", "run=latest", "prompt=To be", "max_tokens=5"]) == 0
    assert main(["next", "run=latest", "prompt=Ce soir, je vais chercher les"]) == 0
    assert "%" in capsys.readouterr().out


def test_show_tells_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model=gpt2", "tokenizer=gpt2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parameters"] == 124_439_808
    assert told["memory_bytes"]["cache"] == 2 * 12 * 768 * 4 * 1024
    assert main(["show", *TINY, "position=alibi", f"out={tmp_path / 'm.svg'}"]) == 0
    assert (tmp_path / "m.svg").read_text("utf-8").startswith("<svg")
    capsys.readouterr()
    assert main(["show", *TINY, "position=sinusoidal"]) == 0
    out = capsys.readouterr().out
    assert "██" in out
    assert "sinusoidal" in out


def test_components_lists_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["components", "--json"]) == 0
    listed = {(part["slot"], part["name"]) for part in json.loads(capsys.readouterr().out)}
    assert {("model.position", "rotary"), ("model.attention", "unnormalised"), ("tokenizer", "bpe")} <= listed
    assert main(["components", "model.position"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_new_plugin_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gptkit import registry

    monkeypatch.chdir(tmp_path)
    try:
        assert main(["new", "plugin", "tilted", "slot=model.position"]) == 0
        assert main(["train", *TINY, "position=tilted", "trainer.max_steps=2"]) == 0
        assert main(["new", "plugin", "tilted", "slot=model.position"]) == 2
    finally:
        monkeypatch.undo()
        registry.refresh()


def test_completion_offers_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "query", "gptkit train position=alib"]) == 0
    assert capsys.readouterr().out == "position=alibi\n"
    assert main(["completion", "query", "gptkit train model.n_l"]) == 0
    assert capsys.readouterr().out == "model.n_layers=\n"


def test_two_configs_differ_where_they_differ(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "diff", "model=nano", "model=nano position=none", "--json"]) == 0
    keys = json.loads(capsys.readouterr().out)
    assert keys["model.position.name"] == ["learned", "none"]
    assert all(re.match(r"model\.position", key) for key in keys)
