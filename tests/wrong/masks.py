"""Masks that are wrong on purpose."""

from __future__ import annotations

from gptkit.model.interfaces import Mask
from gptkit.model.masks import Causal, SlidingWindow
from wrong import wrong


@wrong("model.mask", "true_to_its_word")
class CausalOffByOne(Causal):
    def allows(self, q_positions, k_positions, context):
        return k_positions <= q_positions + 1


@wrong("model.mask", "elementwise")
class AnswersWithNumbers(Causal):
    is_causal = False

    def allows(self, q_positions, k_positions, context):
        return (k_positions <= q_positions).float()


@wrong("model.mask", "elementwise")
class LooksAtTheShape(Mask):
    def allows(self, q_positions, k_positions, context):
        far = (q_positions - k_positions).abs() < (q_positions.shape[1] if q_positions.ndim else 3)
        return far & (q_positions >= k_positions)


@wrong("model.mask", "true_to_its_word")
class NotEvenItself(SlidingWindow):
    def allows(self, q_positions, k_positions, context):
        return k_positions < q_positions


@wrong("model.mask", "true_to_its_word")
class SaysItDoesNotApply(SlidingWindow):
    def allows(self, q_positions, k_positions, context):
        return (q_positions - k_positions).abs() < 3

    def applies(self, context):
        return False


@wrong("model.mask", "composes")
class AndIsOr(SlidingWindow):
    def allows(self, q_positions, k_positions, context):
        return (q_positions - k_positions).abs() < 3

    def __and__(self, other):
        return self | other


@wrong("model.mask", "true_to_its_word")
class CausalAsFarAsItSees(Mask):
    """A causal window that takes itself for the whole causal mask."""

    is_causal = True

    def allows(self, q_positions, k_positions, context):
        distance = q_positions - k_positions
        return (distance >= 0) & (distance < 64)


@wrong("model.mask", "true_to_its_word")
class CausalAtFirst(Mask):
    """Causal, but from position 30 on one token ahead."""

    is_causal = True

    def allows(self, q_positions, k_positions, context):
        return k_positions <= q_positions + (q_positions >= 30)
