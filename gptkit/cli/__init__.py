"""The command line: `gptkit VERB [key=value ...]`.

Each verb is a module here with `SUMMARY`, `USAGE` and `run(args) -> exit code`; its summary is read from
its source, and it is imported when it is asked for. A module named after a keyword ends in `_`.
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from gptkit.cli.interrupt import end_while_importing
from gptkit.cli.paper import coloured
from gptkit.errors import GptkitError, did_you_mean

_FIRST = (
    "train",
    "compare",
    "generate",
    "next",
    "show",
    "components",
    "config",
    "plugins",
    "new",
    "check",
    "import",
    "export",
    "doctor",
)
_SUMMARY = re.compile(r'^SUMMARY = "(.*)"$', re.MULTILINE)
_START = """\
gptkit: a GPT is a composition of named parts.

  gptkit train                                a small GPT, in about a minute
  gptkit train position=rotary tokenizer=bpe  swap parts, a word each
  gptkit compare position=rotary,learned      train both, say which is better
  gptkit components                           all that can be swapped
  gptkit show model=gpt2                      draw a model before it is trained
  gptkit generate run=latest prompt="To be"   let a trained model speak
  gptkit next run=latest prompt="To be"       its ranked next tokens

gptkit --help lists every command; gptkit COMMAND --help explains one."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0 is success, 2 a mistake of the user's, told in one message, 1 any other failure, 130 and 143 a run
    that a signal stopped and that can be resumed. `GPTKIT_DEBUG=1` shows tracebacks.
    """
    if argv is None:  # the process is this command's own
        end_while_importing()
    args = list(sys.argv[1:] if argv is None else argv)
    gc.set_threshold(100_000, 20, 20)  # a command that starts makes many objects and next to no garbage
    try:
        code = _dispatch(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output has gone
        _silence()
        return 141
    except KeyboardInterrupt:
        _complain("Stopped.")
        return 130
    except GptkitError as error:
        _show_traceback(error)
        _complain(str(error))
        return error.exit_code
    except Exception as error:
        _show_traceback(error)
        told = " ".join(str(error).split())[:500]
        _complain(f"gptkit met an error that it did not expect: {type(error).__name__}: {told}")
        _complain("GPTKIT_DEBUG=1 shows where it happened.")
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
    if not args:
        print(_START)
        return 0
    if args[0] == "help":
        args = [*args[1:2], "--help"]
    if args[0] in {"-h", "--help"}:
        print(_help())
        return 0
    if args[0] in {"--version", "-V"}:
        args = ["version", *args[1:]]
    verb, *rest = args
    known = verbs()
    if verb not in known:
        _complain(_no_verb(verb, known))
        return 2
    module = importlib.import_module(module_of(verb))
    if any(flag in rest for flag in ("-h", "--help")):
        print(f"{known[verb][:1].upper()}{known[verb][1:]}.\n\n{module.USAGE.rstrip()}")
        return 0
    return module.run(rest)


def _no_verb(verb: str, known: dict[str, str]) -> str:
    """What to say of a command that is none; a word of a config most likely lacks its command."""
    if "=" in verb:
        return f"{verb!r} is no command. Did you mean: gptkit train {verb}"
    if verb.startswith("-"):
        return f"{verb!r} is no flag of gptkit itself. A command comes first: gptkit train {verb}"
    meant = did_you_mean(verb, known) or f"Commands: {', '.join(known)}."
    return f"{verb!r} is no command. {meant}"


def _help() -> str:
    known = verbs()
    wide = max(map(len, known))
    lines = [f"  {verb:<{wide}}  {summary}" for verb, summary in known.items()]
    return "\n".join(
        [
            "gptkit COMMAND [key=value ...]",
            "",
            *lines,
            "",
            "gptkit COMMAND --help explains one, with examples. Start with: gptkit train",
        ]
    )


def _show_traceback(error: BaseException) -> None:
    if os.environ.get("GPTKIT_DEBUG"):
        import traceback

        traceback.print_exception(error)


def _complain(message: str) -> None:
    try:
        red, end = ("\033[31m", "\033[0m") if coloured(sys.stderr) else ("", "")
        print(f"{red}{message}{end}", file=sys.stderr)
    except BrokenPipeError:
        _silence()


def _silence() -> None:
    """Let nothing that is still to be written fail on a pipe that has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
