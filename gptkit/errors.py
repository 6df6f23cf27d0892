"""The errors a user may meet. Each says what was given, what was expected, and what to do.

The command line prints the message alone and exits with `exit_code`; a traceback is shown only
with `GPTKIT_DEBUG=1`. Python callers catch the same classes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field


class GptkitError(Exception):
    """Base of every error that gptkit raises on purpose."""

    exit_code = 1


class UserError(GptkitError):
    """Something the user typed, wrote or pointed at is wrong; nothing has been started."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config.

    Attributes:
        key: the full dotted key, such as `model.position.theta`, or a group such as `model/position`.
        message: what was given and what was expected, one sentence.
        hint: what to do about it, one sentence; may be empty.
        unsafe: it asks for more than data, such as for code; told before the others.
    """

    key: str
    message: str
    hint: str = ""
    unsafe: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        text = f"{self.key}: {self.message}" if self.key else self.message
        return f"{text} {self.hint}".rstrip()


class ConfigError(UserError):
    """A config that cannot be built; carries every problem found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: not problem.unsafe)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def check_options(slot: str, *rules: tuple[str, object, str, bool]) -> None:
    """Refuse options of a part that are out of range, all in one error.

        check_options("optimizer", ("lr", lr, "a number of at least 0", lr >= 0))

    Args:
        slot: where the part stands, such as `model.norm`.
        rules: an option, its value, what is expected, and whether that holds; `lr >= 0` fails for NaN,
            `not lr < 0` would not.

    Raises:
        ConfigError: something does not hold; carries every such option.
    """
    problems = [
        Problem(f"{slot}.{option}", f"expected {expected}, got {value!r}.")
        for option, value, expected, holds in rules
        if not holds
    ]
    if problems:
        raise ConfigError(problems)


class UnknownNameError(UserError):
    """A name that no registered component carries."""


class PluginError(UserError):
    """A plugin that cannot be read or imported, or two that claim one name."""


class DataError(UserError):
    """A corpus, file or tokenizer that cannot be used as asked."""


class CheckpointError(GptkitError):
    """A checkpoint that cannot be written, or that does not hold what it says it holds."""


class RunError(UserError):
    """A run directory that cannot be found, created or resumed."""


class PositionRangeError(UserError):
    """Positions were asked for past the end of what an encoding can tell."""


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` was most likely meant to be, or None if none is near."""
    pool = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), list(pool), n=1, cutoff=0.6)
    return pool[close[0]] if close else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """`"Did you mean 'rotary'?"`, or an empty string when nothing is near."""
    match = nearest(name, candidates)
    return f"Did you mean {match!r}?" if match else ""
