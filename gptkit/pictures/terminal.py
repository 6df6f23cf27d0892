"""Matrices in a terminal: two rows of cells to a line where half blocks can be shown, else one sign a cell.

A line is a list of pieces, each a text and a style of rich (`""`, `"#4080de on #1c1e24"`).
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, Literal

import numpy as np

from gptkit.pictures.grid import COLD, Scale, blend, matrix_of, pick, pool, scale_of

Line = list[tuple[str, str]]
Signs = Literal["colour", "blocks", "ascii"]
_DARK = (28, 30, 36)  # behind a picture, in light terminals as well
_RAMP = " .:-=+*#%@"
_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def mask_lines(allowed: Any, *, signs: Signs = "colour", cells: int = 48) -> list[Line]:
    """Who may read whom: queries down, keys across.

    Args:
        allowed: [queries, keys], true or 1 where a query may read a key; shares of a whole are allowed.
        signs: `colour` and `blocks` need half blocks, `ascii` needs nothing.
        cells: more rows or columns than this are drawn as means of several.
    """
    small = pool(allowed, cells, cells)
    if signs == "ascii":
        return [[("".join("# " if cell > 0 else ". " for cell in row).rstrip(), "")] for row in small]
    if signs == "blocks":
        pairs = _pairs(small > 0, False)
        return [
            [("".join(_HALVES[bool(a), bool(b)] for a, b in zip(*pair, strict=True)), "")] for pair in pairs
        ]
    grey = np.array((58, 62, 70))
    shade = np.where(small > 0, 0.25 + 0.75 * small, 0.0)[..., None]  # what is seldom read is still seen
    return _coloured((grey + shade * (np.array(COLD) - grey)).round().astype(int))


def heatmap_lines(
    values: Any, *, signs: Signs = "colour", rows: int = 48, columns: int = 64, scale: Scale | None = None
) -> list[Line]:
    """A heat map: blue below zero, orange above; without colour, denser signs for greater numbers.

    Args:
        values: a matrix.
        signs: as of `mask_lines`; `blocks` is drawn as `ascii`.
        rows, columns: the most cells; some are left out where there are more.
        scale: the numbers of the full colours.
    """
    small = pick(values, rows if signs == "colour" else rows // 2, columns)
    if signs != "colour":
        low, high = float(np.nanmin(small)), float(np.nanmax(small))
        steps = (len(_RAMP) - 1) / ((high - low) or 1.0)
        return [
            [("".join(_RAMP[round((v - low) * steps)] if v == v else "?" for v in row), "")] for row in small
        ]
    shares = (scale or scale_of(values)).shares(small)
    paint = np.array([[blend(float(share), _DARK) for share in row] for row in shares])
    return _coloured(paint)


def _coloured(paint: np.ndarray) -> list[Line]:
    """Cells [rows, columns, 3] of red, green and blue, two rows to a line."""
    lines = []
    for above, below in _pairs(paint, None):
        styles = [
            f"{_hex(top)} on {_hex(bottom)}" if bottom is not None else _hex(top)
            for top, bottom in zip(above, below, strict=True)
        ]
        lines.append([("▀" * len(list(run)), style) for style, run in groupby(styles)])
    return lines


def _pairs(rows: np.ndarray, filler: Any) -> list[tuple[Any, Any]]:
    """Neighbouring rows; the last stands above a row of fillers where their number is odd."""
    found: list[tuple[Any, Any]] = [(rows[i], rows[i + 1]) for i in range(0, len(rows) - 1, 2)]
    return [*found, (rows[-1], [filler] * len(rows[-1]))] if len(rows) % 2 else found


def _hex(colour: Any) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(int(part) for part in colour))


def ramp_note(values: Any) -> str:
    """What the signs of a heat map without colour stand for."""
    matrix = matrix_of(values)
    return f"from {np.nanmin(matrix):.3g} (blank) to {np.nanmax(matrix):.3g} (@)"
