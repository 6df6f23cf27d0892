"""The progress bar and the summary, on a terminal and off it."""

from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gptkit.train.metrics import MetricsLog
from gptkit.train.progress import Progress, summary
from gptkit.train.terminal import duration, safe


class Screen(io.StringIO):
    """A terminal's output, and what a terminal would make of it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())
        screen = [""]
        for piece in re.split(r"(\r\x1b\[K|\x1b\[K|\r|\n)", text):
            if piece == "\n":
                screen.append("")
            elif piece in ("\r", "\r\x1b[K"):
                self.column = 0
                screen[-1] = "" if piece != "\r" else screen[-1]
            elif piece == "\x1b[K":
                screen[-1] = screen[-1][: self.column]
            else:
                screen[-1] = piece + screen[-1][len(piece) :] if self.column == 0 else screen[-1] + piece
                self.column = len(piece)
                continue
            self.column = 0
        return screen

    column = 0


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def console(file: io.StringIO, width: int = 80, terminal: bool = True, **options: Any) -> Console:
    return Console(
        file=file, width=width, force_terminal=terminal, color_system="truecolor", _environ={}, **options
    )


def run(width: int = 80, **options: Any) -> tuple[Screen, Progress, Clock]:
    screen, clock = Screen(), Clock()
    return screen, Progress(2000, console=console(screen, width, **options), clock=clock), clock


def test_bar_shows_what_it_should_and_fits() -> None:
    screen, bar, clock = run()
    for step in range(1, 1001):
        clock.now += 0.05
        bar.update(step, 2.0, **({"val_loss": 2.25, "tokens_per_second": 12345.6} if step % 100 == 0 else {}))
    bar.close()
    last = screen.lines()[-2]
    assert len(last) <= 79
    for shown in ("50%", "1,000/2,000", "loss 2.000", "val 2.250", "12.3k tok/s", "0:50 left", "━"):
        assert shown in last


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 70, 80, 120])
def test_every_width_holds_the_bar_on_one_line(width: int) -> None:
    screen, bar, clock = run(width)
    for step in (1, 500, 2000):
        clock.now += 1
        bar.update(step, 10.5, val_loss=10.25, tokens_per_second=9.9e6)
    bar.close()
    assert all(len(line) < width for line in screen.lines())
    assert screen.lines()[-2].startswith("100%")


def test_notices_and_samples_stand_above_the_bar() -> None:
    screen, bar, clock = run()
    bar.update(1, 3.0)
    bar.notice("wandb: offline")
    bar.sample("ROMEO:\n\x1b[2J\x07To be", 1)
    clock.now += 1
    bar.update(2, 2.9)
    bar.close()
    lines = screen.lines()
    assert lines[0] == "wandb: offline"
    assert lines[1] == "sample after step 1"
    assert [line.rstrip() for line in lines[2:4]] == ["  ROMEO:", "  ··[2J·To be".replace("··", "·", 1)]
    assert lines[-2].startswith("  0%")
    assert sum("2,000" in line for line in lines) == 1
    assert "\x1b[2J" not in screen.getvalue()


def test_what_others_print_stands_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    clock = Clock()
    bar = Progress(100, console=console(screen), clock=clock)
    bar.update(1, 3.0)
    print("a warning", file=sys.stderr)
    print("half a ", end="", file=sys.stderr)
    clock.now += 1
    bar.update(2, 3.0)
    print("line", file=sys.stderr)
    clock.now += 1
    bar.update(3, 3.0)
    bar.close()
    assert sys.stderr is screen
    lines = screen.lines()
    assert lines[:2] == ["a warning", "half a line"]
    assert lines[2].startswith("  3%")


def test_without_a_terminal_there_are_a_few_plain_lines() -> None:
    file, clock = io.StringIO(), Clock()
    bar = Progress(2000, 500, console=Console(file=file, width=80), clock=clock)
    for step in range(501, 1001):
        clock.now += 0.1
        bar.update(step, 2.0, **({"val_loss": 2.5} if step == 700 else {}))
    bar.close()
    bar.close()
    lines = file.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["500/2,000", "700/2,000", "1,000/2,000"]
    assert lines[1] == "step 700/2,000 (35%)  loss 2.000  val 2.500  2:10 left"
    assert "\x1b" not in file.getvalue()


def test_about_every_half_minute_a_plain_line() -> None:
    file, clock = io.StringIO(), Clock()
    bar = Progress(1000, console=Console(file=file, width=80), clock=clock)
    for step in range(1, 1001):
        clock.now += 0.1
        bar.update(step, 2.0)
    bar.close()
    assert len(file.getvalue().splitlines()) == 5


def test_quiet_shows_notices_alone() -> None:
    screen, bar, _ = run()
    quiet = Progress(10, quiet=True, console=console(screen))
    quiet.update(1, 2.0, val_loss=1.0)
    quiet.sample("x", 1)
    quiet.notice("careful")
    quiet.close()
    assert screen.lines() == ["careful", ""]
    bar.close()


def test_no_colour_where_none_is_wanted() -> None:
    screen = Screen()
    bar = Progress(10, console=Console(file=screen, force_terminal=True, width=80, no_color=True))
    bar.update(5, 2.0)
    bar.close()
    assert not re.search(r"\x1b\[[0-9;]*m", screen.getvalue())


def test_ascii_where_nothing_else_can_be_written() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    bar = Progress(10, console=console(file))  # type: ignore[arg-type]
    bar.update(5, 2.0)
    bar.sample("café ●", 5)
    bar.notice("naïve")
    bar.close()
    file.flush()
    assert b"caf? ?" in raw.getvalue()
    assert b"==" in raw.getvalue()


def test_a_loss_that_is_no_number_is_shown_and_passes() -> None:
    screen, bar, clock = run()
    bar.update(1, float("nan"))
    assert "loss nan" in screen.lines()[-1]
    clock.now += 1
    bar.update(2, 2.5)
    assert "loss 2.500" in screen.lines()[-1]
    bar.close()


def test_a_step_costs_little() -> None:
    bar = Progress(10**6, console=console(Screen()))
    times = []
    for block in range(20):
        start = time.perf_counter()
        for step in range(500):
            bar.update(block * 500 + step, 2.0)
        times.append((time.perf_counter() - start) / 500)
    bar.close()
    assert min(times) < 20e-6


RESULT = {
    "status": "finished",
    "val_loss": 1.96812,
    "val_bits_per_byte": 2.83933,
    "train_loss": 1.904,
    "seconds": 58.3,
    "tokens_per_second": 26543.0,
    "steps": 2000,
    "tokens": 1_536_000,
    "parameters": 803_456,
}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [50, 80, 140])
def test_summary_tells_all_within_its_width(width: int, encoding: str, tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        for step in range(10, 2001, 10):
            log.write({"step": step, "loss": 2 + 30 / step, **({"val_loss": 2.1} if step % 500 == 0 else {})})
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    sample = "To be, or not\x1b[31m to be.\n" + "word " * 60 + "\n" + "\n".join("abcdefghijklmnop")
    summary(RESULT, sample, tmp_path, console=Console(file=file, width=width, highlight=False))
    file.flush()
    text = raw.getvalue().decode(encoding)
    for shown in ("1.9681", "2.8393", "0:58", "26.5k", "803k", "validation", "To be, or not", "samples.txt"):
        assert shown in text
    assert str(tmp_path) in text
    assert 'gptkit generate run=latest prompt="To be"' in text
    assert "\x1b[31m" not in text
    assert all(len(line) <= min(width, 80) for line in text.splitlines() if str(tmp_path) not in line)


def test_summary_of_a_stopped_a_failed_and_an_empty_run(tmp_path: Path) -> None:
    def told(result: dict[str, Any]) -> str:
        file = io.StringIO()
        summary(result, "", tmp_path, console=Console(file=file, width=80))
        return file.getvalue()

    assert "gptkit train resume=latest" in told({"status": "stopped", "val_loss": float("nan")})
    failed = told({"status": "failed", "error": "the loss was no number"})
    assert "the loss was no number" in failed
    assert "generate" not in failed
    assert "finished" in told({})


def test_times_and_text_as_a_terminal_shows_them() -> None:
    assert [duration(s) for s in (0, 23.4, 725, 11_220)] == ["0:00", "0:23", "12:05", "3:07:00"]
    assert safe("a\x1b[0m\r\u202eb\tc\nd é", io.StringIO()) == "a·[0m··b\tc\nd é"
