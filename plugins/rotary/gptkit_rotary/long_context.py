"""Rotary positions that slow each pair by its frequency: YaRN, Llama 3.1's scaling, LongRoPE."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from gptkit.errors import UserError, check_options
from gptkit.model.interfaces import ModelShape, float_positions
from gptkit.model.options import base_rule
from gptkit.registry import register
from gptkit_rotary import Rotary
from gptkit_rotary.scaled import Scaled


@register("model.position", "rotary_yarn")
class YarnRotary(Scaled):
    """YaRN: slow pairs are interpolated, fast ones left, with a ramp between (Peng et al. 2023).

    A pair that turns more than `beta_fast` times within the original context keeps its frequency, one
    that turns less than `beta_slow` times has it divided by `factor`. Scores are sharpened: q and k are
    both multiplied by 0.1 ln(factor) + 1.

    Args:
        factor: how many times longer texts may be than those of training.
        original_context: tokens that the model was trained on; null takes context_length / factor.
        beta_fast: turns within the original context from which a pair is left alone.
        beta_slow: turns below which a pair is interpolated wholly.
        strength: factor on q and k; null takes 0.1 ln(factor) + 1.
        truncate: the ramp begins and ends at whole pairs (the paper's code; gpt-oss: false).
        base: the slowest pair of numbers turns once in almost base * 2 pi positions.
        fraction: the part of each head that turns; the rest stays as it is.
        interleaved: pairs are neighbours (GPT-J); false pairs the two halves (GPT-NeoX, Llama).
    """

    def __init__(
        self, shape: ModelShape, *, factor: float = 2.0, original_context: int | None = None,
        beta_fast: float = 32.0, beta_slow: float = 1.0, strength: float | None = None, truncate: bool = True,
        base: float = 10000.0, fraction: float = 1.0, interleaved: bool = False,
    ) -> None:  # fmt: skip
        ramp = f"a number above 0, up to beta_fast={beta_fast}"
        check_options(
            "model.position",
            ("base", base, "a number above 1", base > 1),
            ("beta_slow", beta_slow, ramp, 0 < beta_slow <= beta_fast),
            *_learnt_rules(original_context, strength, 1),
        )
        super().__init__(shape, factor=factor, base=base, fraction=fraction, interleaved=interleaved)
        self.strength = 0.1 * math.log(factor) + 1 if strength is None else strength
        context = original_context or shape.context_length / factor
        first, last = (self._pair_of(turns, context) for turns in (beta_fast, beta_slow))
        if truncate:
            first, last = math.floor(first), math.ceil(last)
        self.first, self.last = max(first, 0), min(last, self.width - 1)

    def _pair_of(self, turns: float, context: float) -> float:
        """Which pair turns so many times within the context; a fraction."""
        return self.width * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(self.base))

    def frequencies(self, positions: Tensor) -> Tensor:
        plain = super().frequencies(positions)
        pair = float_positions(torch.arange(self.width // 2, device=positions.device))
        span = self.last - self.first or 0.001  # a ramp of no width is a step
        slowed = ((pair - self.first) / span).clamp(0, 1)
        return plain / self.factor * slowed + plain * (1 - slowed)


@register("model.position", "rotary_llama3")
class Llama3Rotary(Scaled):
    """Llama 3.1's scaling: by wavelength, with a smooth passage between (Grattafiori et al. 2024).

    A pair whose wavelength is under original_context / high_factor stays, one over
    original_context / low_factor is divided by `factor`; between them the two are mixed.

    Args:
        factor: how many times longer texts may be than those of training.
        low_factor: the original context holds so few waves of a pair that is wholly slowed down.
        high_factor: the original context holds so many waves of a pair that is left alone.
        original_context: tokens that the model was trained on.
        base: the slowest pair of numbers turns once in almost base * 2 pi positions.
        fraction: the part of each head that turns; the rest stays as it is.
        interleaved: pairs are neighbours (GPT-J); false pairs the two halves (GPT-NeoX, Llama).
    """

    def __init__(
        self, shape: ModelShape, *, factor: float = 8.0, low_factor: float = 1.0, high_factor: float = 4.0,
        original_context: int = 8192, base: float = 500000.0, fraction: float = 1.0, interleaved: bool = False,
    ) -> None:  # fmt: skip
        trained = (
            "original_context",
            original_context,
            "a whole number of at least 1",
            original_context >= 1,
        )
        check_options("model.position", base_rule(base), trained)
        super().__init__(shape, factor=factor, base=base, fraction=fraction, interleaved=interleaved)
        if not 0 < low_factor < high_factor:
            raise UserError(
                f"rotary_llama3: low_factor={low_factor} and high_factor={high_factor}; "
                "the first must be above 0 and below the second."
            )
        self.low, self.high, self.original = low_factor, high_factor, original_context

    def frequencies(self, positions: Tensor) -> Tensor:
        plain = super().frequencies(positions)
        waves = self.original * plain / (2 * math.pi)  # in the original context
        kept = ((waves - self.low) / (self.high - self.low)).clamp(0, 1)
        return plain / self.factor * (1 - kept) + plain * kept


@register("model.position", "rotary_longrope")
class LongRotary(Rotary):
    """LongRoPE: each pair is slowed down by a factor of its own, found by search (Ding et al. 2024; Phi-3).

    A model whose context is longer than the original one uses `long_factors`, else `short_factors`; q and
    k are multiplied by sqrt(1 + ln(context / original) / ln(original)) in the first case. With `by_length`
    each text decides, by whether it is longer than the original context, as Phi-3 in transformers: a
    cache then holds to the original context alone, or from a first reading that goes beyond it.

    Args:
        short_factors: one for each turning pair; null leaves them alone.
        long_factors: one for each turning pair; null divides by context / original.
        original_context: tokens that the model was trained on; null takes the context length.
        by_length: whether the text's length chooses the factors, in place of the model's context.
        strength: factor on q and k; null takes the formula's.
        base: the slowest pair of numbers turns once in almost base * 2 pi positions.
        fraction: the part of each head that turns; the rest stays as it is.
        interleaved: pairs are neighbours (GPT-J); false pairs the two halves (GPT-NeoX, Llama).
    """

    def __init__(
        self, shape: ModelShape, *, short_factors: list[float] | None = None,
        long_factors: list[float] | None = None, original_context: int | None = None, by_length: bool = False,
        strength: float | None = None, base: float = 10000.0, fraction: float = 1.0, interleaved: bool = False,
    ) -> None:  # fmt: skip
        factors = (("short_factors", short_factors), ("long_factors", long_factors))
        check_options(
            "model.position",
            base_rule(base),
            *_learnt_rules(original_context, strength, 2),
            *((n, f, "numbers above 0", f is None or all(each > 0 for each in f)) for n, f in factors),
        )
        super().__init__(shape, base=base, fraction=fraction, interleaved=interleaved)
        self.original = original_context or shape.context_length
        self.by_length = by_length
        longer = shape.context_length / self.original
        pairs = self.width // 2
        self.short = [1.0] * pairs if short_factors is None else short_factors
        self.long = [max(longer, 1.0)] * pairs if long_factors is None else long_factors
        self.factors = self.long if longer > 1 else self.short
        for given in (self.short, self.long):
            if len(given) != pairs:
                raise UserError(
                    f"rotary_longrope: {len(given)} factors were given, but {pairs} pairs turn; give one for each."
                )
        self.is_relative = not by_length or self.short == self.long
        formula = math.sqrt(1 + math.log(longer) / math.log(self.original)) if longer > 1 else 1.0
        self.strength = formula if strength is None else strength

    def frequencies(self, positions: Tensor) -> Tensor:
        plain = super().frequencies(positions)
        if not self.by_length:
            return plain / torch.tensor(self.factors, dtype=plain.dtype, device=plain.device)
        first, last = positions[:, :1], positions.max()
        crosses = (last >= self.original) & ((first > 0) & (first <= self.original)).any()
        if not torch.compiler.is_compiling() and bool(crosses):
            raise UserError(
                f"rotary_longrope: position {int(last)} lies past the original context of {self.original}, and the "
                "tokens before it are in a cache, turned as for a shorter text. Read the text anew with new caches, "
                "or take by_length=false."
            )
        both = torch.tensor([self.short, self.long], dtype=plain.dtype, device=plain.device)
        return plain / torch.where(last >= self.original, both[1], both[0])


def _learnt_rules(
    context: int | None, strength: float | None, least: int
) -> Iterator[tuple[str, object, str, bool]]:
    """What may be said of the training before and of the factor on q and k, as rules of `check_options`."""
    tokens = f"a whole number of at least {least}, or null"
    yield "original_context", context, tokens, context is None or context >= least
    yield "strength", strength, "a number above 0, or null", strength is None or strength > 0
