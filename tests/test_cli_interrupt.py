"""Ctrl-C while a command imports what it needs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gptkit.cli import main

_SWALLOWS = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        pass
except BaseException:
    pass
"""


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd, capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # pytest may ignore it
    )  # fmt: skip


def test_a_command_ends_though_an_import_swallows_the_interrupt(tmp_path: Path) -> None:
    (tmp_path / "swallows.py").write_text(_SWALLOWS)
    command = (
        "import sys, gptkit.cli; sys.argv[1:] = ['version']; before = gptkit.cli.module_of\n"
        "def module_of(verb): import swallows; return before(verb)\n"
        "gptkit.cli.module_of = module_of; print('before'); gptkit.cli.main(); print('went on')"
    )
    ended = python(command, tmp_path)
    assert ended.returncode == 130
    assert ended.stderr == "Stopped.\n"
    assert ended.stdout == "before\n"


def test_elsewhere_it_is_raised_as_ever(tmp_path: Path) -> None:
    ended = python(
        "import os, signal; from gptkit.cli.interrupt import end_while_importing; end_while_importing()\n"
        "try: os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt: print('tidied')",
        tmp_path,
    )
    assert (ended.returncode, ended.stdout) == (0, "tidied\n")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, print])
def test_it_is_left_to_whoever_handles_it(handler: object, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]
    try:
        monkeypatch.setattr(sys, "argv", ["gptkit", "version"])
        assert main() == 0
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_program_that_calls_us_keeps_its_own() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["version"]) == 0
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
