"""What several verbs read from their arguments: flags, and `key=value` words that are not a config's."""

from __future__ import annotations

from collections.abc import Sequence

from gptkit.errors import UserError, did_you_mean, nearest


def split_flags(
    args: Sequence[str], flags: Sequence[str], takes_value: Sequence[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """The flags among the arguments, and the rest.

    Args:
        args: as typed.
        flags: those that stand alone, such as `--json`.
        takes_value: those that are followed by a value, such as `--config-dir`.

    Raises:
        UserError: flags are unknown, or one lacks its value; tells of all of them.
    """
    found: dict[str, str] = {}
    rest: list[str] = []
    problems: list[str] = []
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            rest.append(word)
        elif name in takes_value:
            given = value if equals else next(words, None)
            if not given:
                problems.append(f"{name} needs a value.")
            found[name] = given or ""
        elif word in flags:
            found[word] = ""
        else:
            problems.append(_no_flag(word, [*flags, *takes_value]))
    _refuse(problems)
    return found, rest


def flags_alone(verb: str, args: Sequence[str], flags: Sequence[str]) -> dict[str, str]:
    """The flags of a verb that takes nothing else.

    Raises:
        UserError: a flag is unknown, or other words stand there.
    """
    found, words = split_flags(args, flags)
    if words:
        raise UserError(f"gptkit {verb} takes flags alone, got {' '.join(words)!r}. {_listed(flags)}")
    return found


def take_keys(verb: str, args: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """The values of a verb that takes `key=value` words and nothing else.

    Raises:
        UserError: a word is a flag or no `key=value`, or its key is unknown or given twice; tells of all.
    """
    found: dict[str, str] = {}
    problems: list[str] = []
    for word in args:
        key, equals, value = word.partition("=")
        if word.startswith("-"):
            problems.append(_no_flag(word, ()))
        elif not equals:
            problems.append(f"{word!r}: expected key=value, with one of the keys {', '.join(keys)}.")
        elif key not in keys:
            meant = did_you_mean(key, keys) or f"It takes: {', '.join(keys)}."
            problems.append(f"gptkit {verb} takes no {key!r}. {meant}")
        elif key in found:
            problems.append(f"{key} is given twice: {found[key]} and {value}.")
        else:
            found[key] = value
    _refuse(problems)
    return found


def take_key(words: Sequence[str], key: str) -> tuple[str | None, list[str]]:
    """The value of one `key=value` word, and the other words."""
    values = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return (values[-1] if values else None), [word for word in words if not word.startswith(f"{key}=")]


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise UserError("\n".join(problems))


def _no_flag(word: str, known: Sequence[str]) -> str:
    """What to say of a flag that is none; a key is often written as one."""
    name, equals, _ = word.partition("=")
    bare = {flag.lstrip("-"): flag for flag in (*known, "--help")}  # dashes are alike in all of them
    match = nearest(name.lstrip("-"), bare)
    meant = f"Did you mean {bare[match]!r}?" if match else _listed(known)
    if equals and not match:
        meant = f"A key stands without dashes: {word.lstrip('-')}"
    return f"There is no flag {word!r}. {meant}"


def _listed(flags: Sequence[str]) -> str:
    return f"Flags: {', '.join(flags)}." if flags else "It takes none but --help."
