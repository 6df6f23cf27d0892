"""Strings to copy, to reverse, to go on with and to count in."""

from __future__ import annotations

import random
import string
from typing import ClassVar

from gptkit import register
from gptkit.text.examples import Example
from gptkit_probes.probe import Probe, pick, pick_apart

_ALPHABET = string.ascii_lowercase + string.ascii_uppercase + string.digits


class Strings(Probe):
    """A probe of strings over some characters.

    Args:
        min_length: the fewest characters of an example that is trained on.
        max_length: the most.
        test_lengths: that are asked about; null means 4, 8, 16, 20, 24, 30.
        examples: that are trained on.
        test_examples: in each other split.
        seed: decides the examples; a run's own seed leaves them be.
        symbols: how many different characters there are, at most 62; null takes the probe's own number.
    """

    usual: ClassVar[int] = 26

    def __init__(
        self,
        *,
        min_length: int = 2,
        max_length: int = 16,
        test_lengths: list[int] | None = None,
        examples: int = 20_000,
        test_examples: int = 200,
        seed: int = 0,
        symbols: int | None = None,
    ) -> None:
        super().__init__(
            min_length=min_length,
            max_length=max_length,
            test_lengths=[4, 8, 16, 20, 24, 30] if test_lengths is None else test_lengths,
            examples=examples,
            test_examples=test_examples,
            seed=seed,
        )
        number = self.usual if symbols is None else symbols
        self.require(2 <= number <= len(_ALPHABET), "symbols", number, f"2 to {len(_ALPHABET)}")
        self.symbols = _ALPHABET[:number]
        self.check()

    def check(self) -> None:
        """Refuse options that make no sense for this probe alone."""


@register("data", "copy")
class Copy(Strings):
    """Copy a string: `hgbd>hgbd`, over 26 characters."""

    def draw(self, length: int, rng: random.Random) -> Example:
        """`hgbd>` and `hgbd`."""
        text = pick(rng, self.symbols, length)
        return Example(f"{text}>", text)


@register("data", "reverse")
class Reverse(Strings):
    """Reverse a string: `hgbd<dbgh`, over 26 characters."""

    def draw(self, length: int, rng: random.Random) -> Example:
        """`hgbd<` and `dbgh`."""
        text = pick(rng, self.symbols, length)
        return Example(f"{text}<", text[::-1])


@register("data", "induction")
class Induction(Strings):
    """Go on with a string that began again: `hgbdh` and then `gbd` (Elhage et al. 2021, Olsson et al. 2022).

    Its characters, of 62, are all different, so what follows is known as soon as the first comes again.
    Looking back for the token that followed an equal one takes two layers of attention. Strings have many
    lengths, so that no fixed distance serves.
    """

    usual = 62

    def check(self) -> None:
        longest = max(self.max_length, *self.test_lengths, 0)
        short = min(self.min_length, *self.test_lengths, self.max_length)
        self.require(short >= 2, "min_length", short, "lengths of at least 2, so that something follows")
        self.require(
            longest <= len(self.symbols),
            "symbols",
            len(self.symbols),
            f"at least {longest}, the longest length",
        )

    def draw(self, length: int, rng: random.Random) -> Example:
        """`hgbdh` and `gbd`."""
        text = pick_apart(rng, self.symbols, length)
        return Example(text + text[0], text[1:])


@register("data", "count")
class Count(Strings):
    """Count a character in a string: `abbab?b=` and then `3`, over 3 characters."""

    usual = 3

    def draw(self, length: int, rng: random.Random) -> Example:
        """`abbab?b=` and `3`."""
        text, asked = pick(rng, self.symbols, length), pick(rng, self.symbols, 1)
        return Example(f"{text}?{asked}=", str(text.count(asked)))
