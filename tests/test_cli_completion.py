"""What the Tab key offers: the question that the scripts ask, and bash itself."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gptkit.cli import main
from gptkit.cli.candidates import candidates

BASH = shutil.which("bash")
TOOLS = str(Path(sys.executable).parent)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("gptkit tr", ["train"]),
        ("gptkit components position alib", ["alibi"]),
        ("gptkit components model.po", ["model.position"]),
        ("gptkit train pos", ["position="]),
        ("gptkit train position=alib", ["position=alibi"]),
        ("gptkit train model/position=alib", ["model/position=alibi"]),
        ("gptkit train model.position=alib", ["model.position=alibi"]),
        ("gptkit train model.n_", ["model.n_heads=", "model.n_kv_heads=", "model.n_layers="]),
        ("gptkit train model=gpt2_m", ["model=gpt2_medium"]),
        ("gptkit train model.position.", ["model.position.max_positions="]),
        (
            "gptkit train position=rotary model.position.",
            ["model.position.base=", "model.position.fraction=", "model.position.interleaved="],
        ),
        ("gptkit train model=bigram model.position.", []),
        ("gptkit train +mask=sliding_window model.mask.sl", ["model.mask.sliding_window."]),
        ("gptkit train mask=[causal,sl", ["mask=[causal,sliding_window"]),
        ("gptkit train +logger=c", ["+logger=csv"]),
        ("gptkit train ~logg", ["~logger", "~logger."]),
        ("gptkit train trainer.strategy=f", ["trainer.strategy=fsdp"]),
        ("gptkit train trainer.compile=", ["trainer.compile=false", "trainer.compile=true"]),
        ("gptkit train devices=", ["devices=auto"]),
        ("gptkit train resume=l", ["resume=latest"]),
        ("gptkit train --dr", ["--dry-run"]),
        ("gptkit config di", ["diff"]),
        ("gptkit config show tokenizer=by", ["tokenizer=byte"]),
        ("gptkit show model=na", ["model=nano"]),
        ("gptkit generate tem", ["temperature="]),
        ("gptkit generate sampler=g", ["sampler=greedy"]),
        ("gptkit next run=l", ["run=latest"]),
        ("gptkit new plugin mine slot=model.po", ["slot=model.position"]),
        ("gptkit completion z", ["zsh"]),
        ("gptkit nonsense x", []),
        ("gptkit train position=nonsense", []),
    ],
)
def test_what_is_offered(line: str, offered: list[str]) -> None:
    assert candidates(line) == offered


def test_all_verbs_and_all_groups_are_offered() -> None:
    assert {"train", "generate", "import"} <= set(candidates("gptkit "))
    offered = candidates("gptkit train ")
    assert {"model=", "position=", "tokenizer=", "seed=", "model.", "trainer.", "resume="} <= set(offered)
    assert not any("/" in word for word in offered)


def test_files_runs_and_the_users_own_yaml_are_offered() -> None:
    Path("conf/model").mkdir(parents=True)
    Path("conf/model/mine.yaml").write_text("defaults: [gpt2, _self_]\n")
    Path("text.txt").touch()
    run = Path("runs/20260101-000000-nano-0000")
    run.mkdir(parents=True)
    (run / "config.json").touch()
    assert candidates("gptkit train model=min") == ["model=mine"]
    assert candidates("gptkit train data=text data.path=te") == ["data.path=text.txt"]
    assert candidates("gptkit train resume=2") == [f"resume={run.name}"]
    assert candidates("gptkit generate run=runs/2") == [f"run={run}/"]
    assert candidates("gptkit train --config-dir co") == ["conf/"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "gptkit completion query" in capsys.readouterr().out
    assert main(["completion", "bsh"]) == 2
    assert "Did you mean 'bash'?" in capsys.readouterr().err


def test_the_question_needs_neither_torch_nor_hydra() -> None:
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from gptkit.cli import main\n"
        "main(['completion', 'query', 'gptkit train position=rotary model.position.'])\n"
        "assert not {'torch', 'hydra', 'omegaconf', 'lightning', 'numpy', 'rich'} & set(sys.modules)\n"
        "print(time.perf_counter() - start, file=sys.stderr)\n"
    )
    best = 9.0
    for _ in range(4):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [
            "model.position.base=",
            "model.position.fraction=",
            "model.position.interleaved=",
        ]
        best = min(best, float(done.stderr))
    assert best < 0.3 * _slowness()


def _slowness() -> float:
    """How much slower this machine is now than the one that the limits are for; at least 1."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import json, dataclasses, email, logging"], check=True)
    return max(1.0, (time.perf_counter() - start) / 0.06)


@pytest.mark.skipif(BASH is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("gptkit train position=alib", "alibi"),
        ("gptkit train model/position=alib", "alibi"),
        ("gptkit train model.n_l", "model.n_layers="),
        ("gptkit gen", "generate"),
    ],
)
def test_bash_is_given_what_follows_its_word_break(line: str, replies: str) -> None:
    script = f"""
        PATH={TOOLS}:$PATH; source <(gptkit completion bash)
        COMP_LINE='{line}'; COMP_POINT={len(line)}; _gptkit 2>/dev/null; echo "${{COMPREPLY[@]}}" """
    done = subprocess.run([str(BASH), "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == replies


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_tab_in_a_real_bash() -> None:
    child, terminal = pty.fork()
    if child == 0:
        environment = {**os.environ, "PATH": f"{TOOLS}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"}
        os.execve(str(BASH), ["bash", "--norc", "--noprofile", "-i"], environment)
    try:
        _until(terminal, "$ ")
        os.write(terminal, b"source <(gptkit completion bash); echo read''y\n")
        _until(terminal, "ready")
        os.write(terminal, b"echo gptkit; : gptkit train\n")
        os.write(terminal, b"gptkit config show model/posi\t")
        _until(terminal, "model/position=")
        os.write(terminal, b"alib\t")
        _until(terminal, "alibi ")
        os.write(terminal, b"model.n_l\t")
        assert _until(terminal, "model.n_layers=").endswith("model.n_layers=")
    finally:
        os.write(terminal, b"\x03exit\n")
        os.close(terminal)
        os.waitpid(child, 0)


def _until(terminal: int, text: str, seconds: float = 30.0) -> str:
    """Read until a text has come."""
    read, end = "", time.monotonic() + seconds
    while text not in read:
        assert time.monotonic() < end, f"waited for {text!r}, read {read!r}"
        if select.select([terminal], [], [], 0.2)[0]:
            read += os.read(terminal, 4096).decode("utf-8", "replace")
    return read
