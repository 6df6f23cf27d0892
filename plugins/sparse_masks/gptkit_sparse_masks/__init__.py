"""Attention patterns that read a part of the text; each one says of a query and a key whether it may read it.

Every pattern lets a token read itself, and none looks at more than the two positions (and documents),
so the same lines serve as a matrix, for one new token of cached decoding, and inside FlexAttention.
"""

from __future__ import annotations

from gptkit.errors import UserError


def at_least(least: int, part: str, why: str, **options: int) -> None:
    """Refuse options below `least`.

    Raises:
        UserError: names the part, the option, what was given and what to take.
    """
    for name, value in options.items():
        if value < least:
            raise UserError(f"{part}: {name}={value}, but {why}; take {least} or more.")
