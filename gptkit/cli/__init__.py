"""The command line: `gptkit VERB [key=value ...]`.

Each verb is a module here with `SUMMARY`, `USAGE` and `run(args) -> exit code`; its summary is read from
its source, and it is imported when it is asked for. A module named after a keyword ends in `_`.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from gptkit.errors import GptkitError, did_you_mean

_FIRST = ("train", "generate", "next", "show", "components", "config")
_SUMMARY = re.compile(r'^SUMMARY = "(.*)"$', re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0 is success, 2 a mistake of the user's, told in one message, 1 any other failure, 130 and 143 a run
    that a signal stopped and that can be resumed. `GPTKIT_DEBUG=1` shows tracebacks.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(args)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except GptkitError as error:
        _explain(error)
        _complain(str(error))
        return error.exit_code
    except Exception as error:
        _explain(error)
        _complain(f"{type(error).__name__}: {error}")
        _complain("This is not your mistake but gptkit's. GPTKIT_DEBUG=1 shows where it happened.")
        return 1


def verbs() -> dict[str, str]:
    """Every verb with its summary; nothing is imported."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        match = _SUMMARY.search(path.read_text("utf-8"))
        if match:
            found[path.stem.rstrip("_")] = match[1]
    first = [verb for verb in _FIRST if verb in found]
    return {verb: found[verb] for verb in [*first, *(verb for verb in found if verb not in first)]}


def module_of(verb: str) -> str:
    """The module of a verb."""
    plain = Path(__file__).parent / f"{verb}.py"
    return f"gptkit.cli.{verb}" if plain.is_file() else f"gptkit.cli.{verb}_"


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in {"-h", "--help", "help"}:
        print(_help())
        return 0
    if args[0] in {"--version", "-V"}:
        args = ["version", *args[1:]]
    verb, *rest = args
    known = verbs()
    if verb not in known:
        meant = did_you_mean(verb, known)
        _complain(f"gptkit has no command {verb!r}. {meant or 'Commands: ' + ', '.join(known) + '.'}")
        return 2
    module = importlib.import_module(module_of(verb))
    if any(flag in rest for flag in ("-h", "--help")):
        print(f"{known[verb][:1].upper()}{known[verb][1:]}.\n\n{module.USAGE.rstrip()}")
        return 0
    return module.run(rest)


def _help() -> str:
    known = verbs()
    wide = max(map(len, known))
    lines = [f"  {verb:<{wide}}  {summary}" for verb, summary in known.items()]
    return "\n".join(
        [
            "gptkit composes a GPT from named parts, trains it and lets it speak.",
            "",
            *lines,
            "",
            "gptkit VERB --help shows examples. Start with: gptkit train",
        ]
    )


def _explain(error: BaseException) -> None:
    if os.environ.get("GPTKIT_DEBUG"):
        import traceback

        traceback.print_exception(error)


def _complain(message: str) -> None:
    red, end = ("\033[31m", "\033[0m") if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    print(f"{red}{message}{end}", file=sys.stderr)
