"""Drawing from a distribution by one number, and the fewest tokens that hold a share of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_FEW = (512, 8192)  # candidates tried before all are sorted


def inverse(p: Tensor, uniform: Sequence[float]) -> Tensor:
    """The token at which the cumulated probability first exceeds a number: [B, V] -> [B].

    A token without probability is never taken. A row that sums to no number above 0 gives -1.

    Args:
        p: rows that sum to 1, or about.
        uniform: for each row, from 0 up to but not 1.
    """
    import torch

    wide = torch.float32 if p.device.type == "mps" else torch.float64
    cumulated = p.cumsum(-1, dtype=wide)
    total = cumulated[:, -1:]
    shrink = 1 - 4 * torch.finfo(wide).eps  # so that rounding never reaches the total
    goal = torch.tensor([[u * shrink] for u in uniform], dtype=wide).to(p.device) * total
    found = torch.searchsorted(cumulated, goal, right=True)
    return invalid(found, total > 0).squeeze(-1)


def invalid(tokens: Tensor, valid: Tensor) -> Tensor:
    """The tokens, -1 where they are not valid."""
    return tokens.masked_fill(~valid, -1)


def nucleus(p: Tensor, share: float) -> Tensor:
    """The fewest tokens that hold `share` of the probability, at least one (Holtzman et al. 2020).

    A token is kept while those before it, in falling order, hold less than the share; of equal
    tokens the lowest numbers come first.

    Args:
        p: [B, V], rows that sum to 1.
        share: from 0 to 1.

    Returns:
        Booleans [B, V].
    """
    falling, before = _falling(p, share)
    count = (before < share).sum(-1, keepdim=True).clamp(min=1)  # how many are kept
    least = falling.gather(-1, count - 1)
    above, equal = p > least, p == least
    return above | (equal & (equal.cumsum(-1) <= count - above.sum(-1, keepdim=True)))


def _falling(p: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Probabilities in falling order, enough of them, and the mass before each."""
    import torch

    wide = torch.float32 if p.device.type == "mps" else torch.float64
    for few in _FEW if p.device.type == "cpu" else ():  # sorting all takes as long as a small model
        if p.shape[-1] > 4 * few:
            some = p.topk(few).values
            mass = some.cumsum(-1, dtype=wide)
            if bool((mass[:, -1] >= share).all()):
                return some, _shifted(mass)
    falling = p.sort(-1, descending=True).values
    return falling, _shifted(falling.cumsum(-1, dtype=wide))


def _shifted(mass: Tensor) -> Tensor:
    """One place to the right, 0 first: from the mass up to each to the mass before each."""
    return mass.roll(1, -1).index_fill_(-1, mass.new_zeros(1).long(), 0.0)
