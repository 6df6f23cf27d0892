"""Sums of two numbers."""

from __future__ import annotations

import random

from gptkit import register
from gptkit.text.examples import Example
from gptkit_probes.probe import Probe, pick

_DIGITS = "0123456789"
_LENGTHS = (2, 4, 5, 6, 7, 8)


@register("data", "addition")
class Addition(Probe):
    """Add two numbers of as many digits: `417+925=` and then `1342`.

    With `reverse_answer` the answer begins with its last digit, as carrying goes, which is learned with far
    fewer examples (Lee et al. 2024).

    Args:
        min_length: the fewest digits of each number in examples that are trained on.
        max_length: the most.
        test_lengths: that are asked about; null means 2, 4, 5, 6, 7, 8.
        examples: that are trained on.
        test_examples: in each other split.
        seed: decides the examples; a run's own seed leaves them be.
        reverse_answer: give the last digit of the sum first.
    """

    def __init__(
        self,
        *,
        min_length: int = 1,
        max_length: int = 5,
        test_lengths: list[int] | None = None,
        examples: int = 20_000,
        test_examples: int = 200,
        seed: int = 0,
        reverse_answer: bool = False,
    ) -> None:
        super().__init__(
            min_length=min_length,
            max_length=max_length,
            test_lengths=list(_LENGTHS) if test_lengths is None else test_lengths,
            examples=examples,
            test_examples=test_examples,
            seed=seed,
        )
        self.reverse_answer = reverse_answer

    def draw(self, length: int, rng: random.Random) -> Example:
        """`417+925=` and `1342`, or `2431`."""
        a, b = (pick(rng, _DIGITS[1:], 1) + pick(rng, _DIGITS, length - 1) for _ in range(2))
        total = str(int(a) + int(b))
        return Example(f"{a}+{b}=", total[::-1] if self.reverse_answer else total)
