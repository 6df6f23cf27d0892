"""How far training is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from gptkit.numbers import amount
from gptkit.train.console import LastingConsole, LastingStream
from gptkit.train.summary import summary
from gptkit.train.terminal import duration, safe, writable

__all__ = ["Progress", "summary"]

REDRAW = 0.2  # seconds between two pictures of the bar
PLAIN = 30.0  # seconds between two lines where there is no terminal
SMOOTHING = 0.05  # weight of the newest loss in the one that is shown
WIDEST_BAR = 30


class Progress:
    """Shows steps, losses, tokens a second and the time left.

    It draws from the training loop, at most five times a second, and starts no thread. While a bar
    stands, what anything else prints appears above it.

    Args:
        total: steps of the run.
        start: steps done before.
        quiet: show notices alone.
        console: where to; standard error if not given.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        quiet: bool = False,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        console = console or LastingConsole(stderr=True)
        self._out: Any = LastingStream(console)
        self._console = console
        drawable = console.is_terminal and not (console.is_dumb_terminal or console.legacy_windows)
        self._live, self._quiet = drawable and not quiet, quiet
        self._colour = console.color_system is not None and not console.no_color
        self._full, self._half, self._rest = "━╸─" if writable("━╸─", self._out) else "=>-"
        self._clock, self._total, self._step = clock, total, start
        self._seen: dict[str, float] = {}
        self._first: tuple[int, float] | None = None
        self._next = -math.inf
        self._shown_step: int | None = None
        self._drawn = self._open_line = self._closed = False
        self._streams: list[_Above] = []
        if not quiet and not self._live:
            self._line(self._clock())

    def update(self, step: int, loss: float | None = None, **metrics: Any) -> None:
        """Step `step` is done; `loss` and any other metrics that are known now.

        The loss shown is a running mean of those that come; the others are shown as they are.
        """
        self._step = step
        if self._quiet:
            return
        if loss is not None:
            self._smooth(loss)
        if metrics:
            self._seen.update(metrics)
        now = self._clock()
        if self._first is None:
            self._first = (step, now)
        if now >= self._next or "val_loss" in metrics:
            self._draw(now) if self._live else self._line(now)

    def notice(self, text: str) -> None:
        """Show a line of text; above the bar, if there is one."""
        self._above(lambda: self._console.print(Text(safe(text, self._out)), soft_wrap=True))

    def sample(self, text: str, step: int) -> None:
        """Show what the model wrote after `step`."""
        if self._quiet:
            return
        heading = Text(f"sample after step {step:,}", style="bold")
        body = Padding(Text(safe(text, self._out)), (0, 0, 1, 2))
        self._above(lambda: self._console.print(heading, body, sep="\n"))

    def close(self) -> None:
        """Leave the last state standing; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._live and self._first is not None:
            self._draw(self._clock())
            self._out.write("\n")
            self._out.flush()
            self._drawn = False
        elif not self._live and not self._quiet and self._shown_step != self._step:
            self._line(self._clock())
        for stream in self._streams:
            stream.restore()

    def _smooth(self, loss: float) -> None:
        before = self._seen.get("loss", math.nan)
        both = math.isfinite(before) and math.isfinite(loss)
        self._seen["loss"] = before + SMOOTHING * (loss - before) if both else loss

    def _above(self, show: Callable[[], None]) -> None:
        self.clear()
        show()
        self._out.flush()
        if self._live and self._first is not None and not self._closed:
            self._draw(self._clock())

    def clear(self) -> None:
        """Take the bar away until it is drawn again."""
        if self._drawn:
            self._out.write("\r\x1b[K")
            self._drawn = False

    def foreign(self, text: str) -> None:
        """Something else is printing `text`: the bar makes way, until the line has ended."""
        self.clear()
        self._open_line = not text.endswith("\n")

    def _draw(self, now: float) -> None:
        self._next = now + REDRAW
        if self._open_line:
            return
        if not self._streams and not self._closed:
            self._streams = [_Above(name, self) for name in ("stdout", "stderr")]
        self._out.write(f"\r{self._bar(now, self._console.width - 1)}\x1b[K")
        self._out.flush()
        self._drawn = True

    def _bar(self, now: float, width: int) -> str:
        """The bar and its numbers; those that there is no room for are left out, the last ones first."""
        share = min(1.0, self._step / self._total) if self._total else 1.0
        parts = self._parts(now)
        while parts and sum(len(plain) + 2 for plain, _ in parts) + 15 > width:
            parts.pop()
        room = width - 5 - sum(len(plain) + 2 for plain, _ in parts)
        cells = max(0, min(WIDEST_BAR, room))
        filled = share * cells
        full = int(filled)
        half = self._half if full < cells and filled - full >= 0.5 else ""
        rest = self._rest * (cells - full - len(half))
        done = self._paint(self._full * full + half, "36")
        return "  ".join([f"{share:4.0%} {done}{self._paint(rest, '2')}", *(painted for _, painted in parts)])

    def _parts(self, now: float) -> list[tuple[str, str]]:
        """(as it is measured, as it is shown) of each number beside the bar."""
        plain = [("", f"{self._step:,}/{self._total:,}", "")]
        for key, label, style in (("loss", "loss", "1"), ("val_loss", "val", "1;33")):
            if key in self._seen:
                plain.append((f"{label} ", f"{self._seen[key]:.3f}", style))
        if left := self._time_left(now):
            plain.append(("", left, ""))
        if rate := self._seen.get("tokens_per_second"):
            plain.append(("", f"{amount(rate)} tok/s", ""))
        return [
            (label + value, self._paint(label, "2") + self._paint(value, style))
            for label, value, style in plain
        ]

    def _line(self, now: float) -> None:
        """The same without a terminal."""
        self._next, self._shown_step = now + PLAIN, self._step
        share = self._step / self._total if self._total else 1.0
        count, *others = (painted for _, painted in self._parts(now))
        self._out.write("  ".join([f"step {count} ({share:.0%})", *others]) + "\n")
        self._out.flush()

    def _time_left(self, now: float) -> str:
        if self._first is None or self._step <= self._first[0] or self._step >= self._total:
            return ""
        pace = (now - self._first[1]) / (self._step - self._first[0])
        return f"{duration(pace * (self._total - self._step))} left"

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colour and style and text else text


class _Above:
    """Standard output or error while a bar stands: what is printed there goes above the bar."""

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress = name, progress
        self._stream: TextIO = getattr(sys, name)
        if self._stream.isatty():
            setattr(sys, name, self)

    def write(self, text: str) -> int:
        if text:
            self._progress.foreign(text)
        return self._stream.write(text)

    def restore(self) -> None:
        """Put the stream back, unless another has taken its place since."""
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
