"""Strings to copy, to reverse, to go on with and to count in."""

from __future__ import annotations

import random
import string

from gptkit import register
from gptkit.text.examples import Example
from gptkit_probes.probe import Probe, pick, pick_apart

_ALPHABET = string.ascii_lowercase + string.ascii_uppercase + string.digits
_LENGTHS = (4, 8, 16, 20, 24, 30)


class Strings(Probe):
    """A probe of strings over some characters."""

    def alphabet(self, symbols: int) -> str:
        """The first so many characters.

        Raises:
            ConfigError: there are not so many.
        """
        self.require(2 <= symbols <= len(_ALPHABET), "symbols", symbols, f"2 to {len(_ALPHABET)}")
        return _ALPHABET[:symbols]


@register("data", "copy")
class Copy(Strings):
    """Copy a string: `hgbd>hgbd`.

    Args:
        min_length: the fewest characters of an example that is trained on.
        max_length: the most.
        test_lengths: that are asked about; null means 4, 8, 16, 20, 24, 30.
        examples: that are trained on.
        test_examples: in each other split.
        seed: decides the examples; a run's own seed leaves them be.
        symbols: how many different characters there are, at most 62.
    """

    def __init__(
        self,
        *,
        min_length: int = 2,
        max_length: int = 16,
        test_lengths: list[int] | None = None,
        examples: int = 20_000,
        test_examples: int = 200,
        seed: int = 0,
        symbols: int = 26,
    ) -> None:
        super().__init__(
            min_length=min_length,
            max_length=max_length,
            test_lengths=list(_LENGTHS) if test_lengths is None else test_lengths,
            examples=examples,
            test_examples=test_examples,
            seed=seed,
        )
        self.symbols = self.alphabet(symbols)

    def draw(self, length: int, rng: random.Random) -> Example:
        """`hgbd>` and `hgbd`."""
        text = pick(rng, self.symbols, length)
        return Example(f"{text}>", text)


@register("data", "reverse")
class Reverse(Strings):
    """Reverse a string: `hgbd<dbgh`.

    Args:
        min_length: the fewest characters of an example that is trained on.
        max_length: the most.
        test_lengths: that are asked about; null means 4, 8, 16, 20, 24, 30.
        examples: that are trained on.
        test_examples: in each other split.
        seed: decides the examples; a run's own seed leaves them be.
        symbols: how many different characters there are, at most 62.
    """

    def __init__(
        self,
        *,
        min_length: int = 2,
        max_length: int = 16,
        test_lengths: list[int] | None = None,
        examples: int = 20_000,
        test_examples: int = 200,
        seed: int = 0,
        symbols: int = 26,
    ) -> None:
        super().__init__(
            min_length=min_length,
            max_length=max_length,
            test_lengths=list(_LENGTHS) if test_lengths is None else test_lengths,
            examples=examples,
            test_examples=test_examples,
            seed=seed,
        )
        self.symbols = self.alphabet(symbols)

    def draw(self, length: int, rng: random.Random) -> Example:
        """`hgbd<` and `dbgh`."""
        text = pick(rng, self.symbols, length)
        return Example(f"{text}<", text[::-1])


@register("data", "induction")
class Induction(Strings):
    """Go on with a string that began again: `hgbdh` and then `gbd` (Elhage et al. 2021, Olsson et al. 2022).

    Its characters are all different, so what follows is known as soon as the first comes again. Looking back
    for the token that followed an equal one takes two layers of attention. Strings have many lengths, so
    that no fixed distance serves.

    Args:
        min_length: the fewest characters of an example that is trained on.
        max_length: the most.
        test_lengths: that are asked about; null means 4, 8, 16, 20, 24, 30.
        examples: that are trained on.
        test_examples: in each other split.
        seed: decides the examples; a run's own seed leaves them be.
        symbols: how many different characters there are, at most 62.
    """

    def __init__(
        self,
        *,
        min_length: int = 2,
        max_length: int = 16,
        test_lengths: list[int] | None = None,
        examples: int = 20_000,
        test_examples: int = 200,
        seed: int = 0,
        symbols: int = 62,
    ) -> None:
        super().__init__(
            min_length=min_length,
            max_length=max_length,
            test_lengths=list(_LENGTHS) if test_lengths is None else test_lengths,
            examples=examples,
            test_examples=test_examples,
            seed=seed,
        )
        self.symbols = self.alphabet(symbols)
        longest = max(self.max_length, *self.test_lengths, 0)
        self.require(min_length >= 2, "min_length", min_length, "at least 2, so that something follows")
        self.require(all(n >= 2 for n in self.test_lengths), "test_lengths", self.test_lengths, "2 or more")
        self.require(longest <= symbols, "symbols", symbols, f"at least {longest}, the longest length")

    def draw(self, length: int, rng: random.Random) -> Example:
        """`hgbdh` and `gbd`."""
        text = pick_apart(rng, self.symbols, length)
        return Example(text + text[0], text[1:])


@register("data", "count")
class Count(Strings):
    """Count a character in a string: `abbab?b=` and then `3`.

    Args:
        min_length: the fewest characters of an example that is trained on.
        max_length: the most.
        test_lengths: that are asked about; null means 4, 8, 16, 20, 24, 30.
        examples: that are trained on.
        test_examples: in each other split.
        seed: decides the examples; a run's own seed leaves them be.
        symbols: how many different characters there are, at most 62.
    """

    def __init__(
        self,
        *,
        min_length: int = 2,
        max_length: int = 16,
        test_lengths: list[int] | None = None,
        examples: int = 20_000,
        test_examples: int = 200,
        seed: int = 0,
        symbols: int = 3,
    ) -> None:
        super().__init__(
            min_length=min_length,
            max_length=max_length,
            test_lengths=list(_LENGTHS) if test_lengths is None else test_lengths,
            examples=examples,
            test_examples=test_examples,
            seed=seed,
        )
        self.symbols = self.alphabet(symbols)

    def draw(self, length: int, rng: random.Random) -> Example:
        """`abbab?b=` and `3`."""
        text, asked = pick(rng, self.symbols, length), pick(rng, self.symbols, 1)
        return Example(f"{text}?{asked}=", str(text.count(asked)))
