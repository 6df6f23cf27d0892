"""Lines on a terminal or in a pipe: cut or wrapped to its width, in colour where colour is seen."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_NARROW, _WIDE = 40, 100
Piece = tuple[str, str]


class Paper:
    """Writes lines of coloured pieces, each a text with its style: `("core", "dim")`.

    Args:
        out: where to; standard output if not given.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stdout
        self.width = max(_NARROW, min(_WIDE, shutil.get_terminal_size((80, 24)).columns))
        self.colour = coloured(self.out)

    def line(self, *pieces: Piece) -> None:
        """One line, however long."""
        self.out.write("".join(self._painted(*piece) for piece in pieces) + "\n")

    def cut(self, *pieces: Piece, end: Piece = ("", "")) -> None:
        """One line, cut to the width; `end` stands at its end whole."""
        room = self.width - len(end[0])
        kept = []
        for text, style in pieces:
            short = text if len(text) <= room else text[: max(0, room - 1)].rstrip() + "…"
            kept.append((short, style))
            room -= len(short)
            if short != text:
                break
        self.line(*kept, end)

    def wrapped(self, text: str, indent: int = 0, style: str = "") -> None:
        """A paragraph."""
        for row in self._rows(text, " " * indent, " " * indent):
            self.line((row, style))

    def hanging(self, *lead: Piece, text: str, indent: int) -> None:
        """A lead, and a text after it that goes on under `indent`."""
        margin = " " * sum(len(piece) for piece, _ in lead)
        first, *rest = self._rows(text, margin, " " * indent) or [margin]
        self.line(*lead, (first[len(margin) :], ""))
        for row in rest:
            self.line((row, ""))

    def _rows(self, text: str, first: str, others: str) -> list[str]:
        """A text cut to the width between words; a path or a formula with a hyphen is one word."""
        cut = textwrap.TextWrapper(
            self.width,
            initial_indent=first,
            subsequent_indent=others,
            break_long_words=False,
            break_on_hyphens=False,
        )
        return cut.wrap(text)

    def _painted(self, text: str, style: str) -> str:
        if not (self.colour and style and text):
            return text
        return f"\x1b[{';'.join(_CODES[word] for word in style.split())}m{text}\x1b[0m"


def coloured(out: TextIO) -> bool:
    """Whether colours are written: on a terminal that is no dumb one; `NO_COLOR` and `FORCE_COLOR` say otherwise."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (out.isatty() and os.environ.get("TERM") != "dumb")
