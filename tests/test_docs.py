"""The documentation is run: Python blocks as they stand, commands as far as composing them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gptkit import registry
from gptkit.cli import verbs
from gptkit.compose import compose

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "plugins").glob("*/README.md")])
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in _BLOCK.findall(page.read_text("utf-8")) if kind == language]


@pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.name if page.parent.name == "docs" else page.parent.name
)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(registry._registered)
    space: dict[str, object] = {"__name__": "example"}
    try:
        for text in blocks(page, "python"):
            exec(compile(text, str(page), "exec"), space)
    finally:
        for added in registry._registered.keys() - before.keys():
            if registry._registered[added].__module__ == "example":
                del registry._registered[added]


COMMANDS = [
    (page.name, line.split("  #")[0].strip())
    for page in PAGES
    for text in blocks(page, "bash")
    for line in text.replace("\\\n", " ").splitlines()
    if line.startswith("gptkit ")
]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: value[:60])
def test_commands_are_real(page: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, verb, *words = shlex.split(command)
    assert verb in verbs()
    if verb in {"train", "show"} and not any(word.startswith("resume=") for word in words):
        own = ("tilt", "bell", "width")  # parts that a page writes itself
        kept = [word for word in words if not word.startswith(("out=", "-"))]
        compose([word for word in kept if not any(name in word for name in own)])


def test_the_ways_to_write_layers_say_the_same(tmp_path: Path) -> None:
    page = ROOT / "docs" / "model.md"
    [written] = blocks(page, "yaml")
    (tmp_path / "layers.yaml").write_text(written, "utf-8")
    typed = [shlex.split(line)[2:] for line in "".join(blocks(page, "bash")).splitlines()]
    said = [compose(words)["model"]["layers"] for words in [[f"config={tmp_path}/layers.yaml"], *typed]]
    assert len(said) == 5
    assert said == [{"3::4": {"position": {"name": "none"}, "mask": {"causal": {}}}}] * 5


def test_a_file_of_ones_own_composes(tmp_path: Path) -> None:
    [written] = blocks(ROOT / "docs" / "compose.md", "yaml")
    (tmp_path / "my.yaml").write_text(written, "utf-8")
    config = compose([f"config={tmp_path}/my.yaml"])
    assert config["optimizer"] == compose(["experiment=nanogpt_cpu"])["optimizer"] != compose([])["optimizer"]
    assert config["model"]["position"]["name"] == "rotary"
    assert list(config["model"]["mask"]) == ["causal", "sliding_window"]
    assert config["model"]["n_heads"] == 8


def test_the_page_of_the_command_line_leaves_nothing_out() -> None:
    page = (ROOT / "docs/cli.md").read_text("utf-8")
    described = re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)
    shown = [line.split()[1] for line in blocks(ROOT / "docs/cli.md", "bash")[0].splitlines()]
    assert described == shown == list(verbs())
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "gptkit").rglob("*.py"))
    read = set(re.findall(r"GPTKIT_\w+", sources)) - {"GPTKIT_LAUNCH_DIR"}  # between a launch and its workers
    assert read <= set(re.findall(r"GPTKIT_\w+", page))


def test_every_page_can_be_found() -> None:
    links = (
        (page, target) for page in PAGES for target in re.findall(r"\]\(([^)#:]+)", page.read_text("utf-8"))
    )
    linked = {(page.parent / target).resolve() for page, target in links}
    assert set((ROOT / "docs").glob("*.md")) <= linked


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
