"""Randomised positions: in training a text stands at places drawn from a longer range."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gptkit import registry
from gptkit.errors import ConfigError, PositionRangeError, Problem
from gptkit.model.interfaces import ModelShape, PositionalEncoding
from gptkit.registry import register


@register("model.position", "randomised")
class Randomised(PositionalEncoding):
    """Another encoding, told sorted places drawn from 0 .. span - 1 instead of 0 .. T - 1 (Ruoss et al. 2023).

    So a model meets in training all distances that a longer text will have. One draw serves all rows
    and layers of a batch, as in the paper, from torch's generator as dropout does. In evaluation token t
    stands at t * span / reach, evenly, so that texts up to `reach` tokens fill the range and a cache
    stays right; the paper draws there as well.

    Args:
        of: the encoding, with its options.
        reach: tokens that a text may have in evaluation; null takes 4 contexts.
        span: places that are drawn from; null takes twice the reach.

    Raises:
        ConfigError: the encoding is missing or refuses its options, or the numbers do not go together.
    """

    def __init__(
        self,
        shape: ModelShape,
        *,
        of: dict[str, Any] = {"name": "sinusoidal"},  # noqa: B006 - read as plain data, never changed
        reach: int | None = None,
        span: int | None = None,
    ) -> None:
        super().__init__()
        self.reach = 4 * shape.context_length if reach is None else reach
        self.span = 2 * self.reach if span is None else span
        problems = []
        if not shape.context_length <= self.reach <= self.span:
            told = f"reach={self.reach} and span={self.span} for a context of {shape.context_length} tokens."
            hint = "Take context_length <= reach <= span."
            problems.append(Problem("model.position", told, hint))
        if of.get("name") in (None, "randomised"):
            hint = "Take one such as model.position.of={name: rotary}."
            told = f"expected an encoding with a name of its own, got {of}."
            problems.append(Problem("model.position.of", told, hint))
        if problems:
            raise ConfigError(problems)
        self.inner = self._made(of, shape)
        self.max_positions = self.reach
        self._places: Tensor | None = None

    def _made(self, of: dict[str, Any], shape: ModelShape) -> PositionalEncoding:
        options = {key: value for key, value in of.items() if key != "name"}
        try:
            return registry.load("model.position", of["name"])(
                replace(shape, context_length=self.span), **options
            )
        except TypeError as error:
            told = f"{of['name']} refuses {options}: {error}."
            raise ConfigError([Problem("model.position.of", told)]) from error

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        if self.training:
            self._places = self.draw(x.shape[1], x.device)
        return self.inner.embed(x, self.place(positions))

    def rotate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner.rotate(q, k, self.place(q_positions), self.place(k_positions))

    def score_bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor | None:
        return self.inner.score_bias(q, k, self.place(q_positions), self.place(k_positions))

    def draw(self, tokens: int, device: torch.device) -> Tensor:
        """Sorted places for a text of so many tokens, none twice: [tokens]."""
        return torch.randperm(self.span, device=device)[:tokens].sort().values

    def place(self, positions: Tensor) -> Tensor:
        """Where tokens stand that are counted from 0: any shape, whole numbers."""
        if self.training and self._places is not None:
            return self._places[positions]
        return positions * self.span // self.reach

    def require(self, last_position: int) -> None:
        if last_position >= self.reach:
            raise PositionRangeError(
                f"randomised positions were stretched for {self.reach} tokens; position {last_position} was asked "
                "for. Give fewer tokens, or train with a larger model.position.reach."
            )
