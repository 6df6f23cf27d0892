"""`gptkit version`."""

from __future__ import annotations

from gptkit import __version__

SUMMARY = "the version of gptkit"
USAGE = "gptkit version"


def run(args: list[str]) -> int:
    """Print it."""
    print(f"gptkit {__version__}")
    return 0
