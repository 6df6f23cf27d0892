"""Ctrl-C and SIGTERM ask a run to stop after its step; a second Ctrl-C stops it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_HANDLED = (signal.SIGINT, signal.SIGTERM)
_ECHO_SECONDS = 1.0


class StopSignals:
    """Remembers which signal asked the run to stop.

    Attributes:
        received: the signal's number, or 0.
    """

    def __init__(self) -> None:
        self.received = 0
        self._at = 0.0

    @contextmanager
    def listening(self) -> Iterator[StopSignals]:
        """Take SIGINT and SIGTERM over for a while; outside the main thread this does nothing.

        Lightning has a handler for SIGTERM of its own, which ends the process with status 0; it is
        installed before training starts and is set aside here.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._handle) for number in _HANDLED}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @staticmethod
    @contextmanager
    def unchanged() -> Iterator[None]:
        """Leave the handlers of both signals as they were, whoever installs others meanwhile."""
        before = {number: signal.getsignal(number) for number in _HANDLED}
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        again = self.received == signal.SIGINT == number
        if again and not (_launched() and now - self._at < _ECHO_SECONDS):
            stop_at_once(number)
        if not self.received:
            self.received, self._at = number, now
            if number == signal.SIGINT and not _launched() and not _interactive():
                signal.signal(number, signal.SIG_DFL)  # a second one then acts even inside a long kernel


def stop_at_once(number: int) -> None:
    """End this process as the signal would have, had nobody listened."""
    if _interactive():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def exit_code(number: int) -> int:
    """What a shell reports for a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number


def _launched() -> bool:
    """Whether torchrun started this process: then one Ctrl-C arrives twice, from it and the terminal."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _interactive() -> bool:
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules
