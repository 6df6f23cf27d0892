"""Rotary positions for texts longer than a model was trained on: its turns are slowed down.

Each part is rotary position embedding with other frequencies. `factor` says how many times longer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gptkit.errors import UserError
from gptkit.model.interfaces import ModelShape, float_positions
from gptkit.registry import register
from gptkit_rotary import Rotary


class Scaled(Rotary):
    """Rotary for texts `factor` times longer than those of training."""

    def __init__(
        self, shape: ModelShape, *, factor: float, base: float, fraction: float, interleaved: bool
    ) -> None:
        super().__init__(shape, base=base, fraction=fraction, interleaved=interleaved)
        if factor < 1:
            raise UserError(f"factor={factor} says how many times longer texts become; take 1 or more.")
        self.factor = factor


@register("model.position", "rotary_linear")
class LinearRotary(Scaled):
    """Position interpolation: positions are divided by `factor` (Chen et al. 2023).

    angle_i(p) = p / factor * base^(-2i/d): positions beyond those of training fall between them.

    Args:
        factor: how many times longer texts may be than those of training.
        base: the slowest pair of numbers turns once in almost base * 2 pi positions.
        fraction: the part of each head that turns; the rest stays as it is.
        interleaved: pairs are neighbours (GPT-J); false pairs the two halves (GPT-NeoX, Llama).
    """

    def __init__(
        self, shape: ModelShape, *, factor: float = 2.0, base: float = 10000.0, fraction: float = 1.0,
        interleaved: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(shape, factor=factor, base=base, fraction=fraction, interleaved=interleaved)

    def frequencies(self, positions: Tensor) -> Tensor:
        return super().frequencies(positions) / self.factor


@register("model.position", "rotary_ntk")
class NtkRotary(Scaled):
    """The base grows, so that the slowest pair is interpolated and the fastest is not (bloc97 2023, 'NTK-aware').

    base' = base * factor^(d / (d - 2)): the slowest frequency is then divided by `factor`.

    Args:
        factor: how many times longer texts may be than those of training.
        base: the slowest pair of numbers turns once in almost base * 2 pi positions, before scaling.
        fraction: the part of each head that turns; the rest stays as it is.
        interleaved: pairs are neighbours (GPT-J); false pairs the two halves (GPT-NeoX, Llama).
    """

    def __init__(
        self, shape: ModelShape, *, factor: float = 2.0, base: float = 10000.0, fraction: float = 1.0,
        interleaved: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(shape, factor=factor, base=base, fraction=fraction, interleaved=interleaved)
        _needs_two_pairs("rotary_ntk", self.width)
        self.base = base * factor ** (self.width / (self.width - 2))


@register("model.position", "rotary_dynamic")
class DynamicRotary(Scaled):
    """NTK-aware scaling by the length of the text read: short ones are as they were (emozilla 2023).

    base' = base * (factor * L / C - (factor - 1))^(d / (d - 2)) for a text of L > C tokens, where C is
    the context length. All tokens of one pass turn alike, so a longer text changes what the first
    tokens say, and a cache holds to the end of the context alone.

    Args:
        factor: how fast the base grows with the length.
        base: of texts within the context length.
        fraction: the part of each head that turns; the rest stays as it is.
        interleaved: pairs are neighbours (GPT-J); false pairs the two halves (GPT-NeoX, Llama).
    """

    is_relative = False

    def __init__(
        self, shape: ModelShape, *, factor: float = 2.0, base: float = 10000.0, fraction: float = 1.0,
        interleaved: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(shape, factor=factor, base=base, fraction=fraction, interleaved=interleaved)
        _needs_two_pairs("rotary_dynamic", self.width)
        self.context_length = shape.context_length

    def frequencies(self, positions: Tensor) -> Tensor:
        last = positions.max()
        if not torch.compiler.is_compiling() and bool(
            (last >= self.context_length) & (positions[:, :1] > 0).any()
        ):
            raise UserError(
                f"rotary_dynamic: position {int(last)} lies past the context of {self.context_length}, and the "
                "tokens before it are in a cache, turned as for a shorter text. Read the text without a cache, "
                "or take model/position=rotary_ntk or rotary_yarn, whose turns do not change."
            )
        longer = self.factor * float_positions(last + 1) / self.context_length - (self.factor - 1)
        pair = float_positions(torch.arange(0, self.width, 2, device=positions.device))
        base = self.base * longer.clamp(min=1) ** (self.width / (self.width - 2))
        return base ** (-pair / self.width)


def _needs_two_pairs(name: str, width: int) -> None:
    if width < 4:
        raise UserError(
            f"{name}: only {width} numbers of a head turn; it needs 4 or more to tell slow from fast."
        )
