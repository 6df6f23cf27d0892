"""`gptkit check` and `pytest --gptkit-conformance`: what they run, say and end with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gptkit import registry
from gptkit.cli import main

BROKEN = '''"""A position encoding that forgets where it was."""
import torch
from gptkit.model.interfaces import ModelShape, PositionalEncoding
from gptkit.registry import register


@register("model.position", "forgetful")
class Forgetful(PositionalEncoding):
    """Adds a wave that starts anew at each pass.

    Args:
        speed: turns a place.
    """

    def __init__(self, shape: ModelShape, *, speed: float = 1.0) -> None:
        super().__init__()
        self.speed = speed

    def embed(self, x, positions):
        turns = torch.linspace(0.1, 1.0, x.shape[2])
        return x + torch.sin(self.speed * torch.arange(x.shape[1])[:, None] * turns).to(x.dtype)
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "forgetful.py").write_text(BROKEN, "utf-8")
    monkeypatch.chdir(tmp_path)
    registry.refresh()
    yield tmp_path
    registry.refresh()
    registry._registered.pop(("model.position", "forgetful"), None)
    sys.modules.pop("forgetful", None)


def test_a_sound_part_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "sinusoidal", "causal"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model.position=sinusoidal: ")
    assert lines[0].endswith("laws hold.")
    assert lines[-1].startswith("2 parts: ")


def test_a_broken_part_is_told_with_the_law(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "forgetful"]) == 1
    said = capsys.readouterr().out
    assert "BROKEN    decoding_equals_reading: " in said
    assert main(["check", "forgetful", "--json"]) == 1
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["decoding_equals_reading"]["status"] == "failed"
    assert rows["documented"] | {"told": ""} == {
        "part": "model.position=forgetful", "options": {}, "check": "documented", "status": "passed", "told": "",
        "law": rows["documented"]["law"],
    }  # fmt: skip


def test_a_plugin_named_as_a_module_that_is_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = project / "plugins" / "trace.py"
    file.write_text(BROKEN.replace("forgetful", "tracer"), "utf-8")
    registry.refresh()
    assert main(["check", "tracer"]) != 0
    told = " ".join("".join(capsys.readouterr()).split())
    assert f"{file.resolve()}: its name clashes with the module 'trace' that is already there" in told
    assert "Rename it." in told


@pytest.mark.parametrize(
    ("words", "told"),
    [([], "needs the name"), (["rotery"], "Did you mean"), (["no_such_part"], "gptkit components")],
)
def test_a_name_that_means_nothing(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *words]) == 2
    assert told in capsys.readouterr().err


def test_as_tests_of_a_strangers_project(project: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--gptkit-conformance",
        "forgetful",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "decoding_equals_reading: Read in parts with a cache" in done.stdout
    assert " passed" in done.stdout
    assert "Traceback" not in done.stdout
    done = subprocess.run([*command[:-1], "rotery"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert "Did you mean" in done.stderr
