"""Loss by step in a few lines of text: dots of braille, or plain letters where there is no braille."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich.text import Text

from gptkit.train.curve import Axis, columns, series

TRAIN, VAL = "cyan", "bold yellow"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bits of a braille cell, [row][column]


def terminal_curve(
    rows: Iterable[Mapping[str, Any]], width: int = 46, height: int = 11, *, plain: bool = False
) -> list[Text]:
    """Training loss as a line of dots, validation loss as marks upon it.

    Args:
        rows: metrics, as `metrics.read` gives them.
        width, height: characters of the whole picture, axes and legend included.
        plain: use ASCII alone.

    Returns:
        One text for each line; none if there are fewer than two losses to show.
    """
    rows = list(rows)
    train, val = ([p for p in series(rows, key) if math.isfinite(p[1])] for key in ("loss", "val_loss"))
    values = [value for _, value in train + val]
    if len(values) < 2:
        return []
    lines = height - 2
    y = Axis(values, "linear", 4 * lines - 1, 0, count=max(4, lines // 2), snug=True)
    labels = [label.rjust(max(map(len, y.labels()))) for label in y.labels()]
    cells = width - len(labels[0]) - 2
    x = Axis([step for step, _ in train + val] + [0.0], "linear", 0, 2 * cells - 1, count=4, snug=True)
    grid = _grid(train, val, x, y, (cells, lines), plain)
    at_line = {round(y(tick)) // 4: label for tick, label in zip(y.ticks, labels, strict=True)}
    blank = " " * len(labels[0])
    tick, side, foot = ("|", "|", "-") if plain else ("┤", "│", "─")
    text = [
        Text.assemble(
            (at_line.get(line, blank) + " ", "dim"), (tick if line in at_line else side, "dim"), *grid[line]
        )
        for line in range(lines)
    ]
    corner = "+" if plain else "╰"
    text.append(Text(f"{blank} {corner}{foot * cells}", "dim"))
    return [*text, _foot(len(blank) + 2, cells, x, bool(train), bool(val), plain)]


def _grid(
    train: list[tuple[float, float]],
    val: list[tuple[float, float]],
    x: Axis,
    y: Axis,
    size: tuple[int, int],
    plain: bool,
) -> list[list[tuple[str, str]]]:
    """The characters and styles of each line."""
    cells, lines = size
    bits = [[0] * cells for _ in range(lines)]
    before: tuple[int, int] | None = None
    for at, mean, _, _ in columns(train, x):
        here = (round(at), round(y(mean)))
        for column, row in _between(before, here):
            bits[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
        before = here
    full = [
        [("." if plain else chr(0x2800 + cell), TRAIN) if cell else (" ", "") for cell in line]
        for line in bits
    ]
    for step, value in val:
        full[round(y(value)) // 4][round(x(step)) // 2] = ("o" if plain else "●", VAL)
    return full


def _between(start: tuple[int, int] | None, end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots of a straight line, its end included."""
    if start is None:
        return [end]
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (round(start[0] + (end[0] - start[0]) * i / steps), round(start[1] + (end[1] - start[1]) * i / steps))
        for i in range(1, steps + 1)
    ]


def _foot(indent: int, cells: int, x: Axis, train: bool, val: bool, plain: bool) -> Text:
    """The last step at the right, the legend at the left."""
    legend = Text()
    if train:
        legend.append("." if plain else "⠤⠤", TRAIN).append(" training  ", "dim")
    if val:
        legend.append("o" if plain else "●", VAL).append(" validation", "dim")
    last = f"{x.most:,.0f} steps"
    if legend.cell_len + len(last) >= cells:  # no room for both
        legend = Text()
    gap = max(0, cells - legend.cell_len - len(last))
    return Text.assemble(" " * indent, legend, " " * gap, (last, "dim"))
