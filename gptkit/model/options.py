"""What options may be that many parts share, told in one way."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from gptkit.errors import check_options


def dropout_layer(slot: str, rate: float) -> nn.Dropout:
    """A layer that drops numbers at a rate, the option `dropout` of a part.

    Raises:
        ConfigError: the rate is not from 0 up to but not 1.
    """
    check_options(slot, dropout_rule(rate))
    return nn.Dropout(rate)


def dropout_rule(rate: float) -> tuple[str, object, str, bool]:
    """How many numbers may be dropped, as a rule of `check_options`."""
    return "dropout", rate, "a number from 0 up to but not 1", 0 <= rate < 1


def pattern_rules(dropout: float, scale: float | None) -> Iterator[tuple[str, object, str, bool]]:
    """What the options on an attention's pattern may be, as rules of `check_options`."""
    yield dropout_rule(dropout)
    yield "scale", scale, "a number above 0, or null", scale is None or scale > 0


def eps_rule(eps: float) -> tuple[str, object, str, bool]:
    """What may be added to a variance or a mean square, as a rule of `check_options`."""
    return "eps", eps, "a number of at least 0", eps >= 0


def base_rule(base: float) -> tuple[str, object, str, bool]:
    """What wavelengths of positions may be powers of, as a rule of `check_options`."""
    return "base", base, "a number above 0", base > 0


def count_rule(option: str, count: int | None) -> tuple[str, object, str, bool]:
    """A width or a number of things that a part may choose by itself, as a rule of `check_options`."""
    return option, count, "a whole number of at least 1, or null", count is None or count >= 1
