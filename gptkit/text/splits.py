"""A part of a corpus as token numbers: what is trained on, or validated on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Running text, or examples in rows of their own.

    Attributes:
        tokens: token numbers, [N]; rows stand one after the other.
        n_bytes: UTF-8 bytes of the text that all targets spell.
        scored: which tokens count as targets, [N] bool; None where all do but the first.
        width: tokens of a row; None where text runs on, and is read from anywhere.
        length: how long its examples are, by the corpus's own measure; None where they differ.
        trained: whether examples of this length are trained on.
    """

    tokens: np.ndarray
    n_bytes: int = 0
    scored: np.ndarray | None = None
    width: int | None = None
    length: int | None = None
    trained: bool = True

    def __bool__(self) -> bool:
        """Whether there is a target to score."""
        return len(self.tokens) > 1

    @property
    def examples(self) -> int | None:
        """How many rows there are; None where text runs on."""
        return None if self.width is None else len(self.tokens) // max(1, self.width)

    def reach(self, context_length: int) -> int:
        """Tokens that a model reads of one example: the context of running text, or a row but for its last."""
        return context_length if self.width is None else self.width - 1
