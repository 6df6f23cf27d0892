"""Who may read whom. Each mask is a predicate on one query and one key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from gptkit.errors import PositionRangeError, UserError, check_options
from gptkit.model.interfaces import Mask, MaskContext
from gptkit.registry import SLOTS, register
from gptkit.schema import normal_part


@register("model.mask", "causal")
class Causal(Mask):
    """A token reads itself and those before it."""

    is_causal = True
    allows_self = True

    def __init__(self) -> None:
        super().__init__()

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        return k_positions <= q_positions


@register("model.mask", "full")
class Full(Mask):
    """Every token reads every token."""

    allows_self = True

    def __init__(self) -> None:
        super().__init__()

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        return (q_positions == q_positions) & (k_positions == k_positions)

    def applies(self, context: MaskContext) -> bool:
        return False


@register("model.mask", "padding")
class Padding(Mask):
    """Nobody reads padding; true of every model whose batch tells its padding, said here to be seen."""

    def __init__(self) -> None:
        super().__init__()

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        if context.k_padding is None:
            return (q_positions == q_positions) & (k_positions == k_positions)
        return ~context.k_padding & (q_positions == q_positions)

    def applies(self, context: MaskContext) -> bool:
        return context.k_padding is not None


@register("model.mask", "sliding_window")
class SlidingWindow(Mask):
    """A token reads those less than `window` away (Beltagy et al. 2020; causal: Jiang et al. 2023).

    Args:
        window: how many tokens a token reads to one side, itself among them.
    """

    allows_self = True

    def __init__(self, *, window: int = 128) -> None:
        super().__init__()
        if window < 1:
            raise UserError(
                f"sliding_window: window={window}, but a token reads at least itself; take 1 or more."
            )
        self.window = window

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        return (q_positions - k_positions).abs() < self.window


@register("model.mask", "prefix")
class Prefix(Mask):
    """The first tokens read one another freely, the others those before them (PrefixLM: Raffel et al. 2020).

    Stands in place of `causal`, not beside it: both together are the causal mask alone.

    Args:
        length: tokens of the prefix where a batch does not tell its own.
    """

    allows_self = True

    def __init__(self, *, length: int = 0) -> None:
        super().__init__()
        check_options("model.mask", ("length", length, "a whole number of at least 0", length >= 0))
        self.length = length

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        length = self.length if context.prefix is None else context.prefix
        return (k_positions <= q_positions) | (k_positions < length)


@register("model.mask", "document")
class Document(Mask):
    """A token reads only tokens of its own document, where several are packed into one row."""

    allows_self = True

    def __init__(self) -> None:
        super().__init__()

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        if context.q_documents is None or context.k_documents is None:
            return (q_positions == q_positions) & (k_positions == k_positions)
        return context.q_documents == context.k_documents

    def applies(self, context: MaskContext) -> bool:
        return context.q_documents is not None


@register("model.mask", "explicit")
class Explicit(Mask):
    """A given matrix: token i reads token j where row i, column j holds 1.

    Args:
        matrix: rows of 0 and 1, as many columns as rows.
    """

    has_end = True
    examples: ClassVar = [{"matrix": [[int(j <= i != j + 2) for j in range(24)] for i in range(24)]}]

    def __init__(self, *, matrix: list[list[int]]) -> None:
        super().__init__()
        size = len(matrix)
        if not size or any(len(row) != size for row in matrix):
            raise UserError(
                f"explicit: matrix has {size} rows; each must hold {size or 'at least 1'} numbers."
            )
        if any(entry not in (0, 1) for row in matrix for entry in row):
            raise UserError("explicit: matrix holds numbers other than 0 (may not read) and 1 (may read).")
        self.rows = matrix
        self.allows_self = all(matrix[i][i] for i in range(size))

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        size = len(self.rows)
        asked = q_positions.ndim and not torch.compiler.is_compiling()  # a graph cannot look at numbers
        last = max(int(q_positions.max()), int(k_positions.max())) if asked else 0
        if last >= size:
            raise PositionRangeError(
                f"explicit: the matrix is {size} x {size}, but position {last} was asked for. "
                "Give a larger matrix or a shorter text."
            )
        return torch.tensor(self.rows, dtype=torch.bool, device=q_positions.device)[q_positions, k_positions]


class AllOf(Mask):
    """Allows what every one of its masks allows."""

    def __init__(self, masks: Sequence[Mask]) -> None:
        super().__init__()
        self.masks = tuple(masks)
        self.allows_self = all(mask.allows_self for mask in masks)
        self.has_end = any(mask.has_end for mask in masks)

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        allowed = [
            mask.allows(q_positions, k_positions, context) for mask in self.masks if mask.applies(context)
        ]
        if not allowed:
            return Full().allows(q_positions, k_positions, context)
        result = allowed[0]
        for other in allowed[1:]:
            result = result & other
        return result

    def applies(self, context: MaskContext) -> bool:
        return any(mask.applies(context) for mask in self.masks)

    def causal_in(self, context: MaskContext) -> bool:
        acting = [mask for mask in self.masks if mask.applies(context)]
        return bool(acting) and all(mask.causal_in(context) for mask in acting)


class AnyOf(Mask):
    """Allows what at least one of its masks allows."""

    def __init__(self, masks: Sequence[Mask]) -> None:
        super().__init__()
        self.masks = tuple(masks)
        self.allows_self = any(mask.allows_self for mask in masks)
        self.has_end = any(mask.has_end for mask in masks)

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        result = self.masks[0].allows(q_positions, k_positions, context)
        for mask in self.masks[1:]:
            result = result | mask.allows(q_positions, k_positions, context)
        return result

    def applies(self, context: MaskContext) -> bool:
        return all(mask.applies(context) for mask in self.masks)

    def causal_in(self, context: MaskContext) -> bool:
        return all(mask.causal_in(context) for mask in self.masks)


@register("model.mask", "any")
class AnyGiven(AnyOf):
    """Allows what at least one of the given masks allows: `|` in YAML, where a list means `&`.

    Args:
        of: masks by name, with their options, as `model.mask` itself.
    """

    examples: ClassVar = [{"of": {"sliding_window": {"window": 3}, "prefix": {"length": 2}}}]

    def __init__(self, *, of: dict[str, Any]) -> None:
        super().__init__(_given("any", of))


class Not(Mask):
    """Allows what its mask forbids."""

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self.mask = mask
        self.has_end = mask.has_end

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        return ~self.mask.allows(q_positions, k_positions, context)


@register("model.mask", "not")
class NotGiven(Not):
    """Allows what the given masks together forbid: `~` in YAML.

    Args:
        of: masks by name, with their options, as `model.mask` itself.
    """

    examples: ClassVar = [{"of": {"sliding_window": {"window": 3}}}]

    def __init__(self, *, of: dict[str, Any]) -> None:
        masks = _given("not", of)
        super().__init__(masks[0] if len(masks) == 1 else AllOf(masks))


def _given(name: str, of: dict[str, Any]) -> list[Mask]:
    """The masks of a node within a node."""
    from gptkit.model.assemble import part

    if not of:
        raise UserError(
            f"{name}: of names no mask. Take one such as model.mask.{name}.of={{sliding_window: {{}}}}."
        )
    nodes = normal_part(SLOTS["model.mask"], of)
    return [part("mask", {kind: options}) for kind, options in nodes.items()]


def dense(mask: Mask, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
    """A mask as a matrix.

    Args:
        mask: the predicate.
        q_positions: [1|B, T].
        k_positions: [1|B, S].
        context: its tensors as `MaskContext` has them.

    Returns:
        Booleans [1|B, T, S].
    """
    shaped = MaskContext(
        k_padding=None if context.k_padding is None else context.k_padding.unsqueeze(-2),
        q_documents=None if context.q_documents is None else context.q_documents.unsqueeze(-1),
        k_documents=None if context.k_documents is None else context.k_documents.unsqueeze(-2),
        prefix=None if context.prefix is None else context.prefix.view(-1, 1, 1),
        k_places=None if context.k_places is None else context.k_places.unsqueeze(-2),
    )
    return mask.allows(q_positions.unsqueeze(-1), k_positions.unsqueeze(-2), shaped)
