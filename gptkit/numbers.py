"""Numbers in three digits, as every room shows them."""

from __future__ import annotations

import math

_COUNTS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_SI = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def amount(number: float) -> str:
    """A count, such as of tokens or parameters: `950`, `12.3k`, `1.24M`, `124M`, `1.50B`."""
    return "".join(_scaled(number, _COUNTS))


def quantity(value: float, unit: str) -> str:
    """A measured value with its unit: `285 MFLOP`, `1.24 GB`, `96 B`."""
    digits, letter = _scaled(value, _SI)
    return f"{digits} {letter}{unit}"


def counted(number: int, noun: str) -> str:
    """A number of things: `1 seed`, `2,000 seeds`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> tuple[str, str]:
    """Digits, and the letter of the largest unit in which they are at least 1; none for less than a thousand
    and for what is not finite."""
    for size, letter in units:
        if abs(value) >= 0.9995 * size and math.isfinite(value):
            share = value / size
            places = 0 if abs(share) >= 99.95 else 1 if abs(share) >= 9.995 else 2
            return f"{share:.{places}f}", letter
    return f"{value:.0f}", ""
