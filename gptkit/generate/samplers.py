"""How the next token is drawn from its scores. Importing this needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gptkit.errors import check_options
from gptkit.generate.draw import invalid, inverse, nucleus
from gptkit.generate.interfaces import History, Sampler
from gptkit.registry import register

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Greedy", "Sample", "Sampler"]


@register("sampler", "greedy")
class Greedy(Sampler):
    """Always the most probable token; of several, the one with the lowest number."""

    def __init__(self) -> None:
        pass

    def probabilities(self, logits: Tensor, history: History = None) -> Tensor:
        exact = _exact(logits)
        best = exact.argmax(-1, keepdim=True)
        one = exact.new_zeros(exact.shape).scatter_(-1, best, 1.0)
        return one.masked_fill_(~(exact.gather(-1, best) > -math.inf), math.nan)

    def draw(self, logits: Tensor, history: History, uniform: Sequence[float]) -> Tensor:
        best, tokens = logits.max(-1)
        return invalid(tokens, best > -math.inf)


@register("sampler", "sample")
class Sample(Sampler):
    """Draw by probability, from the tokens that are left after each rule that is set.

    In this order, as in Hugging Face's `generate`: repetition penalty (Keskar et al. 2019), temperature,
    top_k (Fan et al. 2018), top_p (Holtzman et al. 2020), min_p (Nguyen et al. 2024); then what is left
    is brought back to a sum of 1.

    Args:
        temperature: divides the scores; 0 takes the most probable token.
        top_k: keep the k most probable tokens, and those as probable as the last of them.
        top_p: keep the fewest tokens that hold this much probability; of equals, the lowest numbers.
        min_p: leave out tokens below this share of the most probable one's probability.
        repetition_penalty: divides the scores above 0 of tokens that stand in the text, multiplies those below.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
    ) -> None:
        share, least = "a number from 0 to 1, or null to leave it out", math.ulp(0.0)
        check_options(
            "sampler",
            ("temperature", temperature, "a number of 0 or more", _within(temperature, 0)),
            ("top_k", top_k, "a whole number of 1 or more, or null to leave it out", _is_count(top_k)),
            ("top_p", top_p, share, top_p is None or _within(top_p, 0, 1)),
            ("min_p", min_p, share, min_p is None or _within(min_p, 0, 1)),
            (
                "repetition_penalty",
                repetition_penalty,
                "a number above 0",
                _within(repetition_penalty, least),
            ),
        )
        self.temperature, self.repetition_penalty = temperature, repetition_penalty
        self.top_k, self.top_p, self.min_p = top_k, top_p, min_p

    def probabilities(self, logits: Tensor, history: History = None) -> Tensor:
        scores = self._penalised(_exact(logits), history)
        if self.temperature == 0:
            return Greedy().probabilities(scores)
        scores = self._tempered(scores)
        if self.top_k is not None and self.top_k < scores.shape[-1]:
            least = scores.topk(self.top_k).values[:, -1:]
            scores = scores.masked_fill(scores < least, -math.inf)
        return self._kept(scores)

    def draw(self, logits: Tensor, history: History, uniform: Sequence[float]) -> Tensor:
        """The same token as from `probabilities`; with top_k a softmax over k scores serves."""
        if self.temperature == 0:
            return Greedy().draw(self._penalised(_exact(logits), history), history, uniform)
        if self.top_k is None or self.top_k >= logits.shape[-1] or logits.device.type != "cpu":
            return super().draw(logits, history, uniform)
        scores = self._tempered(self._penalised(_exact(logits), history))
        best = scores.topk(self.top_k + 1)
        if not bool((best.values[:, -1] < best.values[:, -2]).all()):  # equals at the border, or no numbers
            return super().draw(logits, history, uniform)
        tokens = best.indices[:, :-1].sort(-1).values  # in the order of `probabilities`
        drawn = inverse(self._kept(scores.gather(-1, tokens)), uniform)
        return tokens.gather(-1, drawn.clamp(min=0).unsqueeze(-1)).squeeze(-1)

    def _tempered(self, scores: Tensor) -> Tensor:
        """Scores over the temperature, the highest 0, so that none overflows."""
        return (scores - scores.amax(-1, keepdim=True)) / self.temperature

    def _kept(self, scores: Tensor) -> Tensor:
        """Probabilities of scores after top_p and min_p."""
        p = scores.softmax(-1)
        if self.top_p is not None and self.top_p < 1:
            p = p.masked_fill(~nucleus(p, self.top_p), 0.0)
        if self.min_p is not None:
            p = p.masked_fill(p < self.min_p * p.amax(-1, keepdim=True), 0.0)
        return p / p.sum(-1, keepdim=True)

    def _penalised(self, scores: Tensor, history: History) -> Tensor:
        if self.repetition_penalty == 1 or history is None:
            return scores
        rows = history if isinstance(history, list) else history.tolist()
        scores = scores.clone()
        for row, tokens in zip(scores, rows, strict=True):
            seen = row.new_tensor(sorted({t for t in tokens if 0 <= t < len(row)})).long()
            score = row[seen]
            penalty = self.repetition_penalty
            row[seen] = score.where(score < 0, score / penalty).where(score >= 0, score * penalty)
        return scores


def _exact(logits: Tensor) -> Tensor:
    return logits.float() if logits.element_size() < 4 else logits


def _within(value: object, least: float, most: float = math.inf) -> bool:
    """Whether an option is a finite number within its range."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return math.isfinite(value) and least <= value <= most


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and _within(value, 1))
