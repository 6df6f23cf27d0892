"""Times and text as a terminal shows them."""

from __future__ import annotations

from typing import Any


def duration(seconds: float) -> str:
    """Seconds as `0:23`, `12:05` or `3:07:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def safe(text: str, stream: Any) -> str:
    """Text as a stream can show it: without what its encoding lacks, and without control characters,
    which a model may write and a terminal would obey."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    clean = "".join(c if c.isprintable() or c in "\n\t\u00a0" else "\u00b7" for c in text)
    return clean.encode(encoding, "replace").decode(encoding)


def writable(text: str, stream: Any) -> bool:
    """Whether a stream's encoding can spell a text."""
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
