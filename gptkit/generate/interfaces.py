"""What every sampler does. Importing this needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gptkit.generate.draw import inverse

if TYPE_CHECKING:
    from torch import Tensor

History = Any  # list[list[int]] or Tensor[B, n]: the tokens of each row so far; below 0 stands for none


class Sampler(ABC):
    """A rule that turns scores into probabilities; a pure function, so that it can be checked."""

    @abstractmethod
    def probabilities(self, logits: Tensor, history: History = None) -> Tensor:
        """The distribution from which the next token is drawn.

        Args:
            logits: [B, V]; 16-bit numbers are computed with in 32.
            history: the tokens that stand in each row already, prompt included.

        Returns:
            [B, V], each row sums to 1; NaN where a row's scores are not numbers or all -inf.
        """

    def draw(self, logits: Tensor, history: History, uniform: Sequence[float]) -> Tensor:
        """A token for each row, [B]; -1 where no token can be drawn.

        Args:
            logits, history: as of `probabilities`.
            uniform: for each row a number from 0 up to but not 1, which decides its token.
        """
        return inverse(self.probabilities(logits, history), uniform)
