"""Where training speaks: somebody may stop listening, and it goes on."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console


class LastingConsole(Console):
    """A console whose reader may go, as `head` does: what is written after that is lost, and nothing else."""

    def on_broken_pipe(self) -> None:
        """Write into nothing from now on."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


class LastingStream:
    """What a console writes to, for those who write to it themselves."""

    def __init__(self, console: Console) -> None:
        self._console, self._stream = console, console.file

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._console.on_broken_pipe()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._console.on_broken_pipe()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
