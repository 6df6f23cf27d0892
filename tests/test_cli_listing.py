"""components, plugins, doctor and config: what they tell, in lines and as JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gptkit
from gptkit import registry
from gptkit.cli import doctor, main
from gptkit.composing.yaml_file import dump, parse


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    registry.refresh()
    yield tmp_path
    registry.refresh()


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(words) == code
    return capsys.readouterr().out


def test_every_part_has_a_line_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "components").splitlines()
    assert max(map(len, lines)) <= 80
    for component in registry.components():
        [*_, last] = [line for line in lines if line.startswith(f"  {component.name} ")]
        assert last.endswith("core") or component.origin.kind != "core" or component.name in {"none"}
    longest = max(map(len, registry.names("model.norm")))  # a slot is as wide as its own names
    assert any(line.startswith(f"  {'layer':<{longest}}  (x - mean)") for line in lines)
    assert any(line.endswith("…  gptkit-rotary") for line in lines)


def test_a_slot_shows_options_types_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "components", "model.position")
    assert "base = 10000.0   a number" in text
    assert "max_positions = null   a whole number or null" in text
    assert "rows of the table; null takes the context length." in text
    assert told(capsys, "components", "position") == told(capsys, "components", "model/position") == text
    assert "matrix (must be given)" in told(capsys, "components", "mask")


def test_a_part_that_fails_to_import_is_named_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "plugins").mkdir()
    text = "from gptkit import register\nimport nowhere\n\n\n@register('model.norm', 'third')\nclass Third:\n    pass\n"
    (here / "plugins/third.py").write_text(text)
    registry.refresh()
    assert main(["show", "norm=third"]) == 2
    assert capsys.readouterr().err == (
        f"model.norm: 'third' of folder third ({here / 'plugins'}) failed to import: "
        "ModuleNotFoundError: No module named 'nowhere'\n"
    )
    assert main(["check", "third"]) == 2
    assert capsys.readouterr().err.startswith("model.norm=third of folder third (")


def test_one_part_shows_its_formula_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "components", "position", "rotary")
    assert "base^(-2i/d) (Su et al." in text
    assert "gptkit train model/position=rotary" in text
    assert "gptkit_rotary/__init__.py:" in text
    assert told(capsys, "components", "position=rotary") == text


def test_components_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    parts = json.loads(told(capsys, "components", "--json"))
    assert {(part["slot"], part["name"]) for part in parts} >= {
        ("model.position", "rotary"),
        ("logger", "wandb"),
    }
    [rotary] = json.loads(told(capsys, "components", "position", "rotary", "--json"))
    assert rotary["origin"] == {"kind": "folder", "package": "gptkit-rotary", "version": "0.1.0"}
    assert rotary["options"][0] == {
        "name": "base", "type": "float", "required": False, "default": 10000.0,
        "help": "the slowest pair of numbers turns once in almost base * 2 pi positions.",
    }  # fmt: skip


def write(path: str, text: str) -> None:
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, "utf-8")


PYPROJECT = '[project]\nname = "{name}"\nversion = "2.0"\n[project.entry-points."gptkit.model.norm"]\n{part} = "{module}:Part"\n'
PART = '"""A part."""\nfrom gptkit import register\n{line}\n\n@register("model.norm", "{part}")\nclass Part:\n    """A norm."""\n'


def plugin(name: str, part: str, line: str = "") -> None:
    write(f"plugins/{name}/pyproject.toml", PYPROJECT.format(name=name, part=part, module=f"{name}_module"))
    write(f"plugins/{name}/{name}_module/__init__.py", PART.format(part=part, line=line))


def test_plugins_good_and_broken(capsys: pytest.CaptureFixture[str]) -> None:
    plugin("good", "fine")
    plugin("bad", "crash", line="import there_is_no_such_module")
    write("plugins/torn/pyproject.toml", "[project\n")
    write("plugins/yaml_only/pyproject.toml", '[project]\nname = "yaml-only"\n')
    write("plugins/yaml_only/conf/model/mine.yaml", "defaults: [gpt2, _self_]\n")
    registry.refresh()
    listed = json.loads(told(capsys, "plugins", "--json", code=1))
    by_name: dict[str, Any] = {entry["name"]: entry for entry in listed}
    assert by_name["gptkit-alibi"]["parts"] == ["model.position=alibi"]
    assert by_name["gptkit-rotary"]["conf"].endswith("plugins/rotary/conf")
    assert (by_name["good"]["version"], by_name["good"]["errors"]) == ("2.0", [])
    assert by_name["bad"]["errors"] == []
    assert "not valid TOML" in by_name["torn"]["errors"][0]
    assert by_name["yaml-only"]["conf"].endswith("plugins/yaml_only/conf")
    checked = told(capsys, "plugins", "--check", code=1)
    assert "there_is_no_such_module" in checked.replace("\n  ", " ")
    assert gptkit.compose(["model=mine"])["model"]["preset"] == "gpt2"
    assert [f.ok for f in doctor.plugins() if f.what in {"plugin good", "plugin torn"}] == [True, False]


def test_two_plugins_that_claim_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    plugin("one", "same")
    plugin("two", "same")
    registry.refresh()
    lines = told(capsys, "plugins", code=1).splitlines()
    both = [f"folder {name} 2.0 ({Path.cwd() / 'plugins' / name})" for name in ("one", "two")]
    message = f"model.norm=same is offered by 2: {' and '.join(both)}. Remove or rename all but one."
    assert " ".join(map(str.strip, lines)).count(message) == 2
    assert max(len(line) for line in lines if "/" not in line) <= 80
    with pytest.raises(gptkit.errors.ConfigError, match="offered by 2"):
        gptkit.compose(["norm=same"])
    assert gptkit.compose()["model"]["norm"]["name"] == "layer"


def test_a_machine_that_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    findings = {entry["what"]: entry for entry in json.loads(told(capsys, "doctor", "--json"))}
    assert not [entry for entry in findings.values() if entry["ok"] is False]
    for what in (
        "Python",
        "torch",
        "lightning",
        "CPU",
        "several processes",
        "default config",
        "wandb",
        "this folder",
    ):
        assert what in findings
    assert told(capsys, "doctor").splitlines()[0].startswith("ok     Python: 3.")


def test_a_machine_that_is_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1")
    assert [f.ok for f in doctor.packages() if f.what == "torch"] == [False]

    def explode() -> Iterator[doctor.Finding]:
        raise OSError("no such\nluck")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (explode,))
    assert told(capsys, "doctor", code=1) == "fails  explode: OSError: no such luck\n"

    def hint() -> Iterator[doctor.Finding]:
        yield doctor.Finding("some-package", None, f"missing for this and that: pip install '{'x' * 40}-x'")

    monkeypatch.setattr(doctor, "CHECKS", (hint,))
    assert told(capsys, "doctor") == (
        f"note   some-package: missing for this and that: pip install\n         '{'x' * 40}-x'\n"
    )


def test_a_config_is_shown_as_yaml_that_is_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=gpt2", "position=rotary", "logger=[csv]", "name=1e-3", "model.layers.2:4.norm=none"]
    text = told(capsys, "config", "show", *words)
    config = gptkit.compose(words)
    assert parse(text) == config
    Path("mine.yaml").write_text(text)
    assert gptkit.compose(["config=mine.yaml"]) == config
    assert json.loads(told(capsys, "config", "show", *words, "--json")) == config
    assert parse(told(capsys, "config", *words)) == config
    assert told(capsys, "config", "validate", "mine.yaml") == "The config can be built.\n"
    assert told(capsys, "config", "diff", "mine.yaml", " ".join(words)) == "The two are the same.\n"


def test_configs_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "config", "diff", "seed=1", 'seed=2 position=none "name=a b"').splitlines()
    assert lines == [
        "seed                          1          →  2",
        'name                          null       →  "a b"',
        'model.position.name           "learned"  →  "none"',
        "model.position.max_positions  null       →  –",
    ]
    as_json = json.loads(told(capsys, "config", "diff", "seed=1", "seed=2", "--json"))
    assert as_json == {"seed": [1, 2]}


@pytest.mark.parametrize(
    "value", ["1e-3", "2:4", "null", "yes", "010", "2026-01-31", "a: b", "", " x", "é\n", "~", "0x1f", 1e-3]
)
def test_yaml_that_is_written_is_read_back(value: Any) -> None:
    assert parse(dump({"a": value, "b": [value]})) == {"a": value, "b": [value]}


def test_a_copy_of_a_plugin_is_the_same_plugin(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    plugin("one", "same")
    monkeypatch.setenv("GPTKIT_PLUGINS", f"{here / 'plugins'}:{here / 'copy'}")
    shutil.copytree("plugins", "copy")
    registry.refresh()
    assert registry.find("model.norm", "same").origin.location == here / "plugins" / "one"
    (here / "copy/one/one_module/__init__.py").write_text(PART.format(part="same", line="changed = True"))
    registry.refresh()
    with pytest.raises(gptkit.errors.PluginError, match="offered by 2"):
        registry.find("model.norm", "same")
