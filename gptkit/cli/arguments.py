"""What several verbs read from their arguments: flags, and `key=value` words that are not a config's."""

from __future__ import annotations

from collections.abc import Sequence

from gptkit.errors import UserError, did_you_mean


def split_flags(
    args: Sequence[str], flags: Sequence[str], takes_value: Sequence[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """The flags among the arguments, and the rest.

    Args:
        args: as typed.
        flags: those that stand alone, such as `--json`.
        takes_value: those that are followed by a value, such as `--config-dir`.

    Raises:
        UserError: a flag is unknown, or lacks its value.
    """
    found: dict[str, str] = {}
    rest: list[str] = []
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            rest.append(word)
        elif name in takes_value:
            given = value if equals else next(words, None)
            if given is None:
                raise UserError(f"{name} needs a value.")
            found[name] = given
        elif word in flags:
            found[word] = ""
        else:
            known = [*flags, *takes_value]
            raise UserError(
                f"There is no flag {word!r}. {did_you_mean(word, known) or 'Flags: ' + ', '.join(known)}"
            )
    return found, rest


def take_key(words: Sequence[str], key: str) -> tuple[str | None, list[str]]:
    """The value of one `key=value` word, and the other words."""
    values = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return (values[-1] if values else None), [word for word in words if not word.startswith(f"{key}=")]
