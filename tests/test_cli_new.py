"""`gptkit new plugin` writes a part for every slot that trains and passes its own test at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gptkit
from gptkit import registry
from gptkit.cli import main
from gptkit.cli.new import TEMPLATES

SLOTS = list(registry.SLOTS)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    registry.refresh()
    yield tmp_path
    registry.refresh()


def word(slot: str) -> str:
    """The word that chooses the new part of a slot."""
    add = "+" if registry.SLOTS[slot].many else ""
    return f"{add}{registry.SLOTS[slot].group}=my_{slot.rsplit('.')[-1]}"


def test_every_slot_has_one() -> None:
    assert {path.name for path in TEMPLATES.iterdir() if path.is_dir()} == set(SLOTS)


def test_all_of_them_pass_their_tests_and_train_together(here: Path) -> None:
    for slot in SLOTS:
        assert main(["new", "plugin", f"my_{slot.rsplit('.')[-1]}", f"slot={slot}"]) == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", "plugins"]
    run = [
        sys.executable,
        "-m",
        "gptkit",
        "train",
        "-q",
        "debug=smoke",
        "model.n_layers=1",
        *map(word, SLOTS),
    ]
    started = [subprocess.Popen(c, env=environment, stdout=-1, stderr=-2, text=True) for c in (tests, run)]
    for process in started:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said
    [place] = (here / "runs").iterdir()
    config = json.loads((place / "config.json").read_text())
    assert config["model"]["attention"] == {"name": "my_attention", "sharpness": 10.0}
    assert (place / "my_logger.log").read_text().endswith("finished\n")
    assert json.loads((place / "result.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("slot", SLOTS)
def test_its_files_tell_the_same(slot: str, here: Path) -> None:
    assert main(["new", "plugin", "mine", f"slot={slot}"]) == 0
    folder = here / "plugins" / "mine"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    group = registry.SLOTS[slot].group
    assert files == {
        "pyproject.toml", "README.md", "gptkit_mine/__init__.py", f"conf/{group}/mine.yaml", "tests/conftest.py",
        "tests/test_mine.py",
    }  # fmt: skip
    found = registry.find(slot, "mine")
    assert (found.origin.package, found.origin.version) == ("gptkit-mine", "0.1.0")
    from_file = gptkit.compose([word(slot).replace(f"my_{slot.rsplit('.')[-1]}", "mine")])
    options = {option.name: option.default for option in found.declaration.options}
    node = from_file
    for key in slot.split("."):
        node = node[key]
    node = node["mine"] if registry.SLOTS[slot].many else node
    assert {key: node[key] for key in options} == options
    assert options
    assert all(option.help for option in found.declaration.options)
    for path in folder.rglob("*"):
        assert not path.is_file() or "$" not in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plugin", "Mine", "slot=model.norm"], "'Mine' cannot name a part: use lower case letters"),
        (["plugin", "null", "slot=model.norm"], "'null' cannot name a part"),
        (["plugin", "../x", "slot=model.norm"], "'../x' cannot name a part"),
        (["plugin", "rotary", "slot=position"], "model.position=rotary is taken by"),
        (
            ["plugin", "mine", "slot=model.positon"],
            "There is no slot 'model.positon'. Did you mean 'model.position'?",
        ),
        (["plugin", "mine"], "Write: gptkit new plugin NAME slot=model.position"),
        (["plug", "mine", "slot=norm"], "Write: gptkit new plugin NAME slot=model.position"),
    ],
)
def test_what_cannot_be_written(
    words: list[str], told: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", *words]) == 2
    assert told in capsys.readouterr().err
    assert not (here / "plugins").exists()


def test_nothing_is_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "plugins" / "mine").mkdir(parents=True)
    (here / "plugins" / "single.py").write_text("x = 1\n")
    for name in ("mine", "single"):
        assert main(["new", "plugin", name, "slot=norm"]) == 2
        assert "is there already; nothing was written." in capsys.readouterr().err
    assert [path.name for path in sorted((here / "plugins").iterdir())] == ["mine", "single.py"]
