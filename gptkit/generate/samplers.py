"""How the next token is drawn from its scores."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from gptkit.errors import UserError
from gptkit.registry import register


class Sampler(ABC):
    """Turns scores into probabilities; whoever calls it draws.

    Attributes:
        is_greedy: all mass is on one token, so nothing is drawn.
    """

    is_greedy: bool = False

    @abstractmethod
    def probabilities(self, logits: Tensor, history: list[list[int]]) -> Tensor:
        """The probability of each next token.

        Args:
            logits: [B, V].
            history: the tokens of each row so far, its prompt among them.

        Returns:
            [B, V], each row summing to 1; float32 or wider.
        """


@register("sampler", "greedy")
class Greedy(Sampler):
    """Always the most probable token; the first of several that are equal."""

    is_greedy = True

    def __init__(self) -> None:
        pass

    def probabilities(self, logits: Tensor, history: list[list[int]]) -> Tensor:
        best = torch.zeros(logits.shape, dtype=_exact(logits).dtype, device=logits.device)
        return best.scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)


@register("sampler", "sample")
class Sample(Sampler):
    """Draw a token, after making the distribution sharper and cutting its tail.

    In this order: repetition penalty (Keskar et al. 2019: a seen token's logit is divided by the penalty
    if positive, multiplied if negative), temperature, top-k (Fan et al. 2018), top-p (Holtzman et al.
    2020: the fewest tokens whose probabilities sum to at least p), min-p (Nguyen et al. 2024). Each cut
    works on what the cuts before it left, and leaves at least one token.

    Args:
        temperature: divides the logits; 0 takes the most probable token.
        top_k: draw from the k most probable tokens alone.
        top_p: draw from the fewest tokens that hold this much probability.
        min_p: leave out tokens below this share of the most probable one's probability.
        repetition_penalty: above 1, tokens that stand in the text already are less probable.
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
        _within("temperature", temperature, 0.0, 1e6)
        _within("top_k", top_k, 1, float("inf"))
        _within("top_p", top_p, 0.0, 1.0)
        _within("min_p", min_p, 0.0, 1.0)
        _within("repetition_penalty", repetition_penalty, 1e-6, 1e6)
        self.temperature, self.top_k, self.top_p, self.min_p = temperature, top_k, top_p, min_p
        self.repetition_penalty = repetition_penalty
        self.is_greedy = temperature == 0 and repetition_penalty == 1.0

    def probabilities(self, logits: Tensor, history: list[list[int]]) -> Tensor:
        logits = _exact(logits)
        if self.repetition_penalty != 1.0:
            logits = penalise(logits, history, self.repetition_penalty)
        if self.temperature == 0:
            return Greedy().probabilities(logits, history)
        logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < least, float("-inf"))
        if self.top_p is not None and self.top_p < 1.0:
            logits = keep_top_p(logits, self.top_p)
        chances = logits.softmax(-1)
        if self.min_p:
            chances = chances.masked_fill(chances < self.min_p * chances.amax(-1, keepdim=True), 0.0)
            chances = chances / chances.sum(-1, keepdim=True)
        return chances


def penalise(logits: Tensor, history: list[list[int]], penalty: float) -> Tensor:
    """Make the tokens of each row's history less probable: [B, V] -> [B, V]."""
    logits = logits.clone()
    for row, tokens in enumerate(history):
        seen = torch.tensor(sorted(set(tokens)), dtype=torch.long, device=logits.device)
        score = logits[row, seen]
        logits[row, seen] = torch.where(score > 0, score / penalty, score * penalty)
    return logits


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Set all but the fewest most probable tokens that hold `top_p` to -inf: [B, V] -> [B, V]."""
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    chances = ordered.softmax(-1)
    before = chances.cumsum(-1) - chances
    drop = before >= top_p
    drop[..., 0] = False
    return logits.masked_fill(torch.zeros_like(drop).scatter(-1, order, drop), float("-inf"))


def _exact(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _within(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        top = "or more" if most == float("inf") else f"to {most:g}"
        raise UserError(f"sampler.{name}={value}: expected a number from {least:g} {top}.")
