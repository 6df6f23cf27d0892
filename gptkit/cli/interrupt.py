"""Ctrl-C while modules are imported.

The imports of a large library take a second, and some of their code swallows the `KeyboardInterrupt` that
Python raises, or turns it into an error of their own: the command would go on, or end with code 1. Nothing
is lost while a module is imported, so the process then ends at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType

_IMPORTING = "<frozen importlib._bootstrap>"


def end_while_importing() -> None:
    """From now on a Ctrl-C during an import ends this process with code 130; elsewhere it raises as ever.

    Only for the main thread of a process that is ours, and only where nobody else handles the signal.
    """
    ours = threading.current_thread() is threading.main_thread()
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _handle)


def _handle(number: int, frame: FrameType | None) -> None:
    if not _importing(frame):
        raise KeyboardInterrupt
    for stream in (sys.stdout, sys.stderr):
        # It may be gone, in the middle of a write, or closed.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            stream.flush()
    with contextlib.suppress(OSError):
        os.write(2, b"Stopped.\n")
    os._exit(128 + number)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False
