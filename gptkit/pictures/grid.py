"""What every picture of a matrix needs: fewer cells, and where a number stands between blue and orange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

COLD, WARM = (64, 128, 222), (236, 112, 56)  # below and above zero


@dataclass(frozen=True)
class Scale:
    """The numbers that a picture's colours stand for; zero has no colour.

    Attributes:
        low, high: the least and the greatest, `low <= 0 <= high`; equally far from zero if both signs occur.
        power: of the share that gives the colour; 0.5 lets small numbers be seen beside great ones.
    """

    low: float
    high: float
    power: float = 1.0

    def shares(self, values: np.ndarray) -> np.ndarray:
        """Values as shares of the full colours: -1 all blue, 0 none, 1 all orange. NaN stays NaN."""
        reach = max(self.high, -self.low) or 1.0
        shares = np.clip(values / reach, -1.0, 1.0)
        return np.sign(shares) * np.abs(shares) ** self.power


def matrix_of(values: Any) -> np.ndarray:
    """A matrix of float64; a single row is one row.

    Raises:
        ValueError: it has no cell, or more than two axes.
    """
    matrix = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"A picture needs a matrix with at least one cell, got the shape {matrix.shape}.")
    return matrix


def scale_of(values: Any, power: float = 1.0) -> Scale:
    """The scale that holds every finite number of a matrix."""
    matrix = matrix_of(values)
    finite = matrix[np.isfinite(matrix)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low < 0 < high:
        high = max(high, -low)
        low = -high
    return Scale(min(low, 0.0), max(high, 0.0), power)


def edges(have: int, most: int) -> np.ndarray:
    """Where `have` cells are cut into at most `most` groups, as equal as can be: `most + 1` borders."""
    return np.linspace(0, have, min(have, most) + 1).round().astype(int)


def pool(values: Any, rows: int, columns: int) -> np.ndarray:
    """The matrix in at most so many rows and columns; each cell is the mean of those that it stands for."""
    matrix = matrix_of(values)
    down, across = edges(matrix.shape[0], rows), edges(matrix.shape[1], columns)
    sums = np.add.reduceat(np.add.reduceat(matrix, down[:-1], axis=0), across[:-1], axis=1)
    return sums / np.outer(np.diff(down), np.diff(across))


def pick(values: Any, rows: int, columns: int) -> np.ndarray:
    """The matrix in at most so many rows and columns; each cell is one of its own, evenly spaced.

    For waves, whose mean over a few cells would be nothing.
    """
    matrix = matrix_of(values)
    down, across = edges(matrix.shape[0], rows)[:-1], edges(matrix.shape[1], columns)[:-1]
    return matrix[np.ix_(down, across)]


def blend(share: float, background: tuple[int, int, int]) -> tuple[int, int, int]:
    """The colour of a share in [-1, 1] over a background, as red, green and blue from 0 to 255."""
    if not np.isfinite(share):
        return background
    towards, part = (WARM, share) if share >= 0 else (COLD, -share)
    r, g, b = (round(near + part * (far - near)) for near, far in zip(background, towards, strict=True))
    return r, g, b


def number(value: float) -> str:
    """A number beside a picture, in three digits."""
    return f"{value or 0.0:.3g}".replace("-", "−")
