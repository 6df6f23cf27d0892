"""Pictures as SVG, written by hand: they scale with their frame and take light or dark colours as their
reader prefers.

A `Figure` is a piece of a page; `document` makes a file of one, and each `*_svg` does both.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

import numpy as np

from gptkit.pictures.grid import Scale, matrix_of, number, pick, pool, scale_of
from gptkit.pictures.png import heat_png
from gptkit.pictures.terminal import Line

_STYLE = """
  svg { --ink: #1f2933; --soft: #667380; --line: #e4e8ec; --blue: #5b8fd6; --warm: #d9480f; --page: #ffffff;
    --off: #eef1f4 }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6eaee; --soft: #98a4b0; --line: #2d353e; --blue: #6ea8fe; --warm: #ff9f5a; --page: #14181d;
      --off: #20262d }
  }
  text { font: 13px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill: var(--ink) }
  .page { fill: var(--page) }
  .title { font-size: 15px; font-weight: 600 }
  .name { font-size: 22px; font-weight: 700 }
  .soft { fill: var(--soft) } .small { font-size: 11.5px; fill: var(--soft) }
  .mono, .mono * { font: 12.5px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace }
  .mono .strong { font-weight: 700 } .mono .dim { fill: var(--soft) } .mono .blue { fill: var(--blue) }
  .bar { fill: var(--blue) } .rail { fill: var(--off) } .off { fill: var(--off) } .on { fill: var(--blue) }
  .frame { fill: none; stroke: var(--line) }
""".strip("\n")
_LEFT, _TOP = 46, 50  # room for the axis and the title of a matrix
_LINE = 17


@dataclass(frozen=True)
class Figure:
    """A piece of a page: SVG elements that fill `width` by `height` pixels from the origin."""

    width: float
    height: float
    body: str

    def at(self, x: float, y: float) -> str:
        """The piece, moved."""
        return f'<g transform="translate({x:g} {y:g})">{self.body}</g>'


def document(figure: Figure, title: str, margin: float = 20) -> str:
    """A whole SVG file of one piece.

    Args:
        figure: what it shows.
        title: what it is, for those who hear it read.
        margin: page around it.
    """
    width, height = figure.width + 2 * margin, figure.height + 2 * margin
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" role="img" aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{_STYLE}\n</style>",
            f'<rect class="page" width="{width:g}" height="{height:g}" rx="6"/>',
            figure.at(margin, margin),
            "</svg>",
            "",
        ]
    )


def mask_svg(allowed: Any, title: str = "Who may read whom", **options: Any) -> str:
    """A mask as a whole SVG file; options as of `mask_figure`."""
    return document(mask_figure(allowed, title, **options), title)


def heatmap_svg(values: Any, title: str = "Heat map", **options: Any) -> str:
    """A matrix as a whole SVG file; options as of `heatmap_figure`."""
    return document(heatmap_figure(values, title, **options), title)


def bars_svg(bars: Sequence[tuple[str, float, str]], title: str = "Shares", **options: Any) -> str:
    """Named amounts as a whole SVG file; options as of `bars_figure`."""
    return document(bars_figure(bars, title, **options), title)


def mask_figure(
    allowed: Any, title: str, *, note: str = "", width: float = 320, cells: int = 128, span: int | None = None
) -> Figure:
    """Who may read whom: queries down, keys across.

    Args:
        allowed: [queries, keys], true or 1 where a query may read a key; shares of a whole are allowed.
        title, note: stand above.
        width: of the whole piece, in pixels.
        cells: more rows or columns than this are drawn as means of several.
        span: how many positions the matrix stands for; its own size if left out.
    """
    matrix = pool(allowed, cells, cells)
    rows, columns = matrix.shape
    side = width - _LEFT
    step = side / columns
    tall = step * rows
    gap = 1.0 if step >= 6 else 0.0
    levels: dict[float, list[str]] = {}
    for row in range(rows):
        column = 0
        for share, run in groupby(np.round(matrix[row], 2)):
            length = len(list(run))
            if gap:
                cut = [f"M{(column + i) * step:.2f} {row * step:.2f}" for i in range(length)]
                drawn = "".join(f"{at}h{step - gap:.2f}v{step - gap:.2f}h{gap - step:.2f}z" for at in cut)
            else:
                drawn = f"M{column * step:.2f} {row * step:.2f}h{length * step:.2f}v{step:.2f}h{-length * step:.2f}z"
            levels.setdefault(float(share), []).append(drawn)
            column += length
    ground = '<path class="off" d="{}"/>'.format("".join(levels.pop(0.0, []))) if gap else _ground(side, tall)
    drawn = "".join(
        f'<path class="on" fill-opacity="{0.25 + 0.75 * share:.2f}" d="{"".join(paths)}"/>'
        for share, paths in sorted(levels.items())
        if share > 0
    )
    body = f'<g transform="translate({_LEFT} {_TOP})" shape-rendering="crispEdges">{ground}{drawn}</g>'
    body += _axes(
        side, tall, span or len(matrix_of(allowed)), span or matrix_of(allowed).shape[1], "key", "query"
    )
    return Figure(width, _TOP + tall + 26, _heading(title, note, width) + body)


def heatmap_figure(
    values: Any,
    title: str,
    *,
    note: str = "",
    across: str = "",
    down: str = "",
    width: float = 440,
    height: float = 260,
    rows: int = 128,
    columns: int = 256,
    scale: Scale | None = None,
) -> Figure:
    """A heat map with named axes and its scale: blue below zero, orange above, the page's colour at zero.

    Args:
        values: a matrix.
        title, note: stand above.
        across, down: what columns and rows are.
        width: of the whole piece, in pixels.
        height: of the matrix; few rows take less.
        rows, columns: the most cells; some are left out where there are more.
        scale: the numbers of the full colours, such as those of a picture beside it.
    """
    matrix = matrix_of(values)
    small = pick(matrix, rows, columns)
    scale = scale or scale_of(matrix)
    side, tall = width - _LEFT, min(height, 22.0 * len(small))
    picture = _image(_LEFT, _TOP, side, tall, scale.shares(small))
    frame = f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{side:g}" height="{tall:g}"/>'
    axes = _axes(side, tall, matrix.shape[0], matrix.shape[1], across, down)
    key = _key(scale, _LEFT + side - 130, _TOP + tall + 34)
    return Figure(width, _TOP + tall + 50, _heading(title, note, width) + picture + frame + axes + key)


def bars_figure(
    bars: Sequence[tuple[str, float, str]],
    title: str = "",
    *,
    width: float = 440,
    label: float = 130,
    value: float = 150,
) -> Figure:
    """Named amounts, one below the other.

    Args:
        bars: name, share of the longest bar from 0 to 1, and the text at the end.
        title: stands above.
        width: of the whole piece, in pixels.
        label, value: room for names and texts.
    """
    top, room = 34.0 if title else 0.0, width - label - value - 12
    body = [f'<text class="title" y="16">{escape(title)}</text>'] if title else []
    for index, (name, share, text) in enumerate(bars):
        y, long = top + 25 * index, room * min(max(share, 0), 1)
        body += [
            f'<text x="{label - 12:g}" y="{y + 13:g}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="rail" x="{label:g}" y="{y:g}" width="{room:g}" height="17" rx="3"/>',
            f'<rect class="bar" x="{label:g}" y="{y:g}" width="{long:.1f}" height="17" rx="3"/>',
            f'<text class="soft" x="{width:g}" y="{y + 13:g}" text-anchor="end">{escape(text)}</text>',
        ]
    return Figure(width, top + 25 * len(bars), "".join(body))


def text_figure(lines: Iterable[Line], width: float = 620) -> Figure:
    """Monospaced lines of pieces, each a text and a style among `""`, `strong`, `dim` and `blue`."""
    rows = list(lines)
    drawn = []
    for index, line in enumerate(rows):
        pieces = "".join(
            f'<tspan class="{style}">{escape(text)}</tspan>' if style else escape(text)
            for text, style in line
        )
        drawn.append(f'<text y="{13 + _LINE * index}" xml:space="preserve">{pieces}</text>')
    return Figure(width, _LINE * len(rows), f'<g class="mono">{"".join(drawn)}</g>')


def _heading(title: str, note: str, width: float) -> str:
    """A title, and a note of what fits below it in at most two lines."""
    lines = textwrap.wrap(note, int(width / 6), max_lines=2, placeholder=" …")
    y = 36 if len(lines) < 2 else 32
    below = "".join(
        f'<text class="small" y="{y + 13 * i}">{escape(line)}</text>' for i, line in enumerate(lines)
    )
    return f'<text class="title" y="16">{escape(title)}</text>{below}'


def _ground(wide: float, tall: float) -> str:
    return f'<rect class="off" width="{wide:g}" height="{tall:g}"/>'


def _image(x: float, y: float, wide: float, tall: float, shares: np.ndarray) -> str:
    return (
        f'<image x="{x:g}" y="{y:g}" width="{wide:g}" height="{tall:g}" preserveAspectRatio="none" '
        f'style="image-rendering: pixelated" href="{heat_png(shares)}"/>'
    )


def _axes(wide: float, tall: float, rows: int, columns: int, across: str, down: str) -> str:
    """The names of both axes, and the first and last number of each."""
    right, bottom = _LEFT + wide, _TOP + tall
    middle, centre = _TOP + tall / 2, _LEFT + wide / 2
    parts = [
        f'<text class="small" x="{_LEFT:g}" y="{bottom + 15:g}">0</text>',
        f'<text class="small" x="{right:g}" y="{bottom + 15:g}" text-anchor="end">{columns - 1:,}</text>',
        f'<text class="small" x="{centre:g}" y="{bottom + 15:g}" text-anchor="middle">{escape(across)}</text>',
        f'<text class="small" x="{_LEFT - 6:g}" y="{_TOP + 10:g}" text-anchor="end">0</text>',
    ]
    if tall >= 30:
        parts.append(
            f'<text class="small" x="{_LEFT - 6:g}" y="{bottom:g}" text-anchor="end">{rows - 1:,}</text>'
        )
    if tall >= 90:
        parts.append(
            f'<text class="small" text-anchor="middle" transform="translate({_LEFT - 10:g} {middle:g}) '
            f'rotate(-90)">{escape(down)}</text>'
        )
    return "".join(parts)


def _key(scale: Scale, x: float, y: float) -> str:
    """The colours with their least and greatest numbers."""
    ramp = np.linspace(scale.low, scale.high, 61)[None]
    return (
        f'<text class="small" x="{x - 6:g}" y="{y + 8:g}" text-anchor="end">{number(scale.low)}</text>'
        + _image(x, y, 90, 9, scale.shares(ramp))
        + f'<rect class="frame" x="{x:g}" y="{y:g}" width="90" height="9"/>'
        + f'<text class="small" x="{x + 96:g}" y="{y + 8:g}">{number(scale.high)}</text>'
    )
