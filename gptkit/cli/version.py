"""`gptkit version`."""

from __future__ import annotations

import json
import platform

from gptkit import __version__
from gptkit.cli.arguments import flags_alone

SUMMARY = "the version of gptkit"
USAGE = "gptkit version [--json]"


def run(args: list[str]) -> int:
    """Print it.

    Raises:
        UserError: there are words that it does not take.
    """
    flags = flags_alone("version", args, ["--json"])
    if "--json" in flags:
        print(json.dumps({"gptkit": __version__, "python": platform.python_version()}))
    else:
        print(f"gptkit {__version__}")
    return 0
