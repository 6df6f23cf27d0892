"""`gptkit show` as one types it."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

from gptkit.cli import main

MODELS = [
    [],
    ["model=bigram"],
    ["model=attention_only", "model.n_heads=8"],
    [
        "position=rotary",
        "mask=[causal,sliding_window]",
        'model.layers={"3::4": {position: none, mask: causal}}',
    ],
    ["position=alibi", "attention=summed_heads", "block=post", "mask=[causal,document]"],
    ["attention=unnormalised", "block=parallel", "position=sinusoidal", "model.context_length=1"],
]


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["show", "tokenizer=byte", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", MODELS, ids=lambda words: " ".join(words) or "default")
@pytest.mark.parametrize("coloured", [False, True])
def test_it_fits_a_terminal(
    words: list[str], coloured: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if coloured:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLORTERM", "truecolor")
        monkeypatch.setenv("TERM", "xterm-256color")
    out = shown(capsys, *words)
    assert ("\033[" in out) == coloured
    plain = re.sub(r"\033\[[\d;]*m", "", out)
    assert max(cell_len(line) for line in plain.splitlines()) <= 80
    for heading in ("Parts", "Operations for each token", "Memory", "Position"):
        assert f"\n{heading}" in plain


def test_no_colour_where_none_is_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033[3" not in re.sub(r"\033\[[01]m", "", shown(capsys))


def test_a_terminal_without_our_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(screen, "ascii", errors="strict"))
    assert main(["show", "tokenizer=byte", "position=rotary", 'model.layers={"1:3": {mask: full}}']) == 0
    sys.stdout.flush()
    text = screen.getvalue().decode("ascii")
    assert "`- head" in text
    assert "?" not in text


def test_the_largest_model_in_a_real_terminal_takes_little_memory(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80"}
    environment = {key: value for key, value in environment.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    code = (
        "import sys; from gptkit.cli import main; assert main(sys.argv[1:]) == 0; "
        "from gptkit.train.hardware import memory_bytes; print(memory_bytes('cpu'), file=sys.stderr)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "show", "model=gpt2_xl", "tokenizer=gpt2"],
        stdout=follower, stderr=subprocess.PIPE, env=environment, cwd=tmp_path,
    )  # fmt: skip
    os.close(follower)
    out = read_all(leader)
    assert process.wait(120) == 0
    os.close(leader)
    assert b"1,557,611,200 parameters" in out  # 6 GB, were they made
    assert b"\033[38;2;64;128;222" in out
    assert "▀".encode() in out
    assert process.stderr is not None
    with process.stderr:
        assert int(process.stderr.read()) < 0.8e9


def read_all(leader: int) -> bytes:
    """What a terminal was sent until the other side closed it."""
    out = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            return out
        if not piece:
            return out
        out += piece


def test_json_is_the_same_for_other_programs(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(shown(capsys, "--json"))
    assert told["name"] == "nano"
    assert told["shape"]["d_model"] == 128
    assert told["parameters"] == 828_544 == sum(told["parameters_by_part"].values())
    assert told["layers"][0]["formula"] == ["y = x + attention(norm(x))", "x = y + feed_forward(norm(y))"]
    assert "PaLM" in told["flops_per_token"]["convention"]


@pytest.mark.parametrize("words", MODELS, ids=lambda words: " ".join(words) or "default")
def test_one_page(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "deep" / "model.svg"
    assert shown(capsys, *words, f"out={page}").split() == [str(page)]
    text = page.read_text("utf-8")
    root = ElementTree.fromstring(text)
    told = "".join(root.itertext())
    for words_of_it in ("Parameters", "Memory", "embedding", "Position"):
        assert words_of_it in told
    assert not re.search(r'href="(?!data:)', text)
    assert len(text) < 400_000
    wide = float(root.get("width", 0))
    for node in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(node.get("x", 0)) + float(node.get("width", 0)) <= wide


def test_a_folder_of_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    shown(capsys, "position=alibi", 'model.layers={"1": {mask: full}}', f"out={folder}")
    found = sorted(path.name for path in folder.iterdir())
    assert found == [
        "cost.svg",
        "mask_1.svg",
        "mask_2.svg",
        "model.svg",
        "parts.svg",
        "position.svg",
        "tree.svg",
    ]
    for path in folder.iterdir():
        ElementTree.fromstring(path.read_text("utf-8"))


def test_json_and_a_page_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    json.loads(shown(capsys, "--json", f"out={tmp_path / 'm.svg'}"))
    assert (tmp_path / "m.svg").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["out=model.png"], "model.svg"),
        (["out="], "model.svg"),
        (["--positions", "0"], "whole number"),
        (["--positions", "many"], "whole number"),
        (["--jsn"], "--json"),
        (["model.n_layer=2"], "model.n_layers"),
        (["model.n_heads=7"], "model.n_heads"),
        (["attention=grouped_query", "model.n_kv_heads=3"], "model.n_kv_heads"),
        (["mask=explicit"], "matrix"),
    ],
)
def test_mistakes_are_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "tokenizer=byte", *words]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out


def test_a_page_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["show", "tokenizer=byte", f"out={tmp_path}/file/model.svg"]) == 2
    assert "cannot be written" in capsys.readouterr().err
