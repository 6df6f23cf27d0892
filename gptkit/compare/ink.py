"""SVG that fits light and dark pages: matplotlib's stand-in colours become CSS variables.

The text and the axes take the colours and the font of the page they lie in. A variant has one colour
everywhere, after Okabe and Ito (2008), told apart by the colour-blind.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib

from gptkit.compare.tables import clean
from gptkit.pictures import pool, scale_of

# Each variant's colour on white, and on black: blue, vermilion, green, purple, sky, orange, olive, grey.
PALETTE = (
    ("#0072b2", "#4da3e0"),
    ("#d55e00", "#f0793a"),
    ("#009e73", "#2fc79b"),
    ("#cc79a7", "#e39ac4"),
    ("#56b4e9", "#a5dbff"),
    ("#e69f00", "#f2b632"),
    ("#8f8500", "#f0e442"),
    ("#6b7075", "#9aa3ab"),
)
# From the least to the greatest of what is ordered: on white from pale to dark, on black from dim to bright.
SEQUENCE = (
    ("#f5a13a", "#8b68e8"),
    ("#ef7f4f", "#a866e0"),
    ("#e06363", "#c268d2"),
    ("#cb4779", "#d970b8"),
    ("#b02a8f", "#ec7d95"),
    ("#8e0ca4", "#f8946d"),
    ("#6900a8", "#fdb254"),
    ("#40039c", "#f7dc4e"),
)
INK, SOFT, LINE, PAGE = "#111213", "#717273", "#d1d2d3", "#fdfcfb"
_SETS = {"v": PALETTE, "s": SEQUENCE}
_LIGHT = {"ink": "#1f2933", "soft": "#5c6873", "line": "#dfe4e8", "page": "#ffffff"}
_DARK = {"ink": "#e6eaee", "soft": "#9aa6b2", "line": "#333c46", "page": "#14181d"}


@dataclass(frozen=True)
class Plot:
    """One picture.

    Attributes:
        title: what it shows, and in which unit.
        svg: the `<svg>` element, transparent, its colours CSS variables.
    """

    title: str
    svg: str

    def document(self) -> str:
        """As a file of its own."""
        style = f"<style>{css()} svg {{ color: var(--ink) }}</style>"
        return '<?xml version="1.0" encoding="utf-8"?>\n' + self.svg.replace(">", f">{style}", 1)


def css() -> str:
    """The colours, light and dark, as CSS variables."""
    both = []
    for place, page in ((0, _LIGHT), (1, _DARK)):
        held = [f"--{name}: {value}" for name, value in page.items()]
        for letter, pairs in _SETS.items():
            held += [f"--{letter}{number}: {pair[place]}" for number, pair in enumerate(pairs)]
        both.append(":root { " + "; ".join(held) + " }")
    return f"{both[0]} @media (prefers-color-scheme: dark) {{ {both[1]} }}"


def svg(figure: Any, title: str) -> Plot:
    """The figure as an element: no ids that another plot may have, no metadata, the page's colours and font."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"{title} {figure.get_size_inches()}"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'style="[^"]*"', lambda found: _coloured(found[0]), text)
    return Plot(title, text.replace("<svg", f'<svg role="img" aria-label="{escape(clean(title))}"', 1))


def heat(
    title: str, values: Any, across: str, down: str, span: int, *, cells: int = 48, power: float = 1.0
) -> Plot:
    """A heat map without pixels: blue below zero, vermilion above, the page's colour at zero.

    Args:
        title: what it shows.
        values: a matrix; more rows or columns than `cells` are drawn as means of several.
        across, down: what its columns and rows are.
        span: how many positions the matrix stands for.
        power: of the colours, see `pictures.Scale`.
    """
    matrix = pool(values, cells, cells)
    rows, columns = matrix.shape
    wide, tall = 360.0, 180.0
    x, y = wide / columns, tall / rows
    levels: dict[tuple[str, float], list[str]] = {}
    for row, shares in enumerate(scale_of(matrix, power).shares(matrix)):
        for column, share in enumerate(shares):
            level = round(abs(float(share)), 1)
            if level > 0:  # neither nought nor NaN
                drawn = f"M{column * x:.1f} {row * y:.1f}h{x:.1f}v{y:.1f}h-{x:.1f}z"
                levels.setdefault(("v0" if share < 0 else "v1", level), []).append(drawn)
    paths = "".join(
        f'<path style="fill: var(--{name})" fill-opacity="{level:g}" d="{"".join(drawn)}"/>'
        for (name, level), drawn in sorted(levels.items())
    )
    scale = scale_of(values)
    text = 'font-size="12" style="fill: var(--ink); font-family: system-ui, sans-serif"'
    told = f"{across} →, {down} ↓; {scale.low + 0.0:.3g} to {scale.high + 0.0:.3g}; {span} positions"
    return Plot(
        title,
        f'<svg role="img" aria-label="{escape(clean(title))}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {wide:g} {tall + 30:g}"><g shape-rendering="crispEdges">'
        f'<rect width="{wide:g}" height="{tall:g}" style="fill: none; stroke: var(--line)"/>{paths}</g>'
        f'<text x="0" y="{tall + 20:g}" {text}>{escape(clean(told))}</text></svg>',
    )


def _coloured(style: str) -> str:
    """A style with CSS variables in place of stand-in colours, and the page's font."""
    for name, colour in (("ink", INK), ("soft", SOFT), ("line", LINE), ("page", PAGE)):
        style = style.replace(colour, f"var(--{name})")
    for letter, pairs in _SETS.items():
        for number, (colour, _) in enumerate(pairs):
            style = style.replace(colour, f"var(--{letter}{number})")
    return re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", style)
