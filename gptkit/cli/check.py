"""`gptkit check`: whether parts keep the laws that every part of a model must keep."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from gptkit.cli.arguments import split_flags
from gptkit.errors import UserError

if TYPE_CHECKING:
    from gptkit.registry import Component
    from gptkit.testing import Outcome

SUMMARY = "prove a part: causality, cache, gradients and the other laws"
USAGE = """\
gptkit check NAME... [-v] [--slow] [--json]

  gptkit check rotary               one part, by its name
  gptkit check gptkit-rotary        every part of a plugin
  gptkit check model.position       every part of a slot
  gptkit check core                 the core's; all checks everything there is

  -v, --verbose  each law with what came of it, refusals with their reasons
  --slow         with the checks that take seconds, such as torch.compile
  --json         print every outcome as JSON

Ends with 1 if a law is broken.
`pytest --gptkit-conformance NAME` makes each law a test.
"""
_MARKS = {"passed": "ok", "failed": "BROKEN", "refused": "refused", "expected": "expected"}


def run(args: list[str]) -> int:
    """Check parts; returns 1 if one breaks a law.

    Raises:
        UserError: no part is named, or a name means none.
    """
    flags, names = split_flags(args, ["-v", "--verbose", "--slow", "--json"])
    if not names:
        raise UserError("gptkit check needs the name of a part, a plugin or a slot: gptkit check rotary")
    from gptkit.testing.select import chosen

    parts = list(dict.fromkeys(part for name in names for part in chosen(name)))
    verbose = "-v" in flags or "--verbose" in flags
    as_json = "--json" in flags
    every: list[Outcome] = []
    for part in parts:
        found = _outcomes(part, slow="--slow" in flags)
        every += found
        if not as_json:
            _show(part, found, verbose)
    if as_json:
        print(json.dumps([_plain(outcome) for outcome in every], indent=2))
    elif len(parts) > 1:
        print(f"\n{len(parts)} parts: {_counted(every)}.")
    return int(any(outcome.status == "failed" for outcome in every))


def _outcomes(part: Component, *, slow: bool) -> list[Outcome]:
    from gptkit.testing import run_check
    from gptkit.testing.select import planned

    return [run_check(check, subject) for subject, check in planned(part, slow=slow)]


def _show(part: Component, found: list[Outcome], verbose: bool) -> None:
    print(f"{part.slot}={part.name}: {_counted(found)}.")
    for outcome in found:
        if verbose or outcome.status == "failed":
            options = " ".join(f"{key}={value}" for key, value in outcome.subject.options.items())
            told = outcome.told or outcome.check.law
            print(
                f"  {_MARKS[outcome.status]:<8}  {outcome.check.name}{f' ({options})' if options else ''}: {told}"
            )
    sys.stdout.flush()


def _counted(found: list[Outcome]) -> str:
    """Such as `41 laws hold, 2 do not apply`."""
    counts = Counter(outcome.status for outcome in found)
    said = [
        f"{counts['passed']} laws hold" if counts["passed"] != 1 else "1 law holds",
        f"{counts['failed']} BROKEN" if counts["failed"] else "",
        f"{counts['refused']} do not apply" if counts["refused"] else "",
        f"{counts['expected']} broken as told" if counts["expected"] else "",
    ]
    return ", ".join(filter(None, said))


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "part": f"{outcome.subject.slot}={outcome.subject.component.name}",
        "options": dict(outcome.subject.options),
        "check": outcome.check.name,
        "law": outcome.check.law,
        "status": outcome.status,
        "told": outcome.told,
    }
