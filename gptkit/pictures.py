"""Matrices as pictures: in the terminal with blocks, elsewhere as SVG. Plain lists of numbers, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Matrix = Sequence[Sequence[float]]
_RAMP = " .:-=+*#%@"
_STOPS = [(38, 70, 150), (110, 160, 215), (245, 245, 240), (235, 150, 100), (165, 40, 45)]


def shrink(matrix: Matrix, rows: int, columns: int) -> list[list[float]]:
    """The matrix in at most this many rows and columns, picked evenly."""
    return [
        [row[j] for j in _picks(len(row), columns)] for row in (matrix[i] for i in _picks(len(matrix), rows))
    ]


def _picks(have: int, most: int) -> list[int]:
    return list(range(have)) if have <= most else [round(i * (have - 1) / (most - 1)) for i in range(most)]


def colour(value: float, low: float, high: float) -> tuple[int, int, int]:
    """Blue below, red above, pale in the middle."""
    place = 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))
    at = place * (len(_STOPS) - 1)
    first = min(int(at), len(_STOPS) - 2)
    share = at - first
    a, b = _STOPS[first], _STOPS[first + 1]
    return tuple(round(a[i] + share * (b[i] - a[i])) for i in range(3))  # type: ignore[return-value]


def mask_lines(allowed: Matrix, size: int = 24) -> list[str]:
    """Who may read whom, one line a query: a block where a key may be read."""
    return ["".join("██" if cell else "··" for cell in row) for row in shrink(allowed, size, size)]


def heat_lines(matrix: Matrix, *, colours: bool, rows: int = 24, columns: int = 64) -> list[str]:
    """A heat map for a terminal: two rows of cells in one line with colours, a ramp of signs without."""
    small = shrink(matrix, rows if colours else rows // 2, columns)
    low, high = _range(small)
    if not colours:
        steps = len(_RAMP) - 1
        return ["".join(_RAMP[round(steps * _place(v, low, high))] for v in row) for row in small]
    lines = []
    for above, below in zip(small[0::2], [*small[1::2], small[-1]], strict=False):
        cells = (
            f"\033[{_paint(38, colour(a, low, high))}m\033[{_paint(48, colour(b, low, high))}m▀"
            for a, b in zip(above, below, strict=True)
        )
        lines.append("".join(cells) + "\033[0m")
    return lines


def _paint(layer: int, shade: tuple[int, int, int]) -> str:
    """A terminal's code for a true colour, of the sign (38) or behind it (48)."""
    return f"{layer};2;{';'.join(map(str, shade))}"


def _range(matrix: Matrix) -> tuple[float, float]:
    values = [value for row in matrix for value in row]
    return min(values), max(values)


def _place(value: float, low: float, high: float) -> float:
    return 0.0 if high <= low else (value - low) / (high - low)


def heat_svg(matrix: Matrix, title: str, across: str, down: str, *, most: int = 96, width: int = 420) -> str:
    """A heat map as an `<svg>` element with a title and named axes; reads in light and dark."""
    small = shrink(matrix, most, most)
    low, high = _range(small)
    cell = width / len(small[0])
    tall = min(width, cell * len(small)) if len(small) >= 8 else 28 * len(small)
    row_height = tall / len(small)
    cells = "".join(
        f'<rect x="{40 + j * cell:.2f}" y="{40 + i * row_height:.2f}" width="{cell + 0.3:.2f}" '
        f'height="{row_height + 0.3:.2f}" fill="rgb{colour(value, low, high)}"/>'
        for i, row in enumerate(small)
        for j, value in enumerate(row)
    )
    total = tall + 76
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 60} {total:.0f}" role="img" '
        f'width="{width + 60}" height="{total:.0f}" font-family="system-ui, sans-serif">'
        "<style>text{fill:#222}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>"
        f'<text x="40" y="24" font-size="15" font-weight="600">{escape(title)}</text>{cells}'
        f'<text x="{40 + width / 2}" y="{tall + 60:.0f}" font-size="12" text-anchor="middle">{escape(across)}</text>'
        f'<text x="0" y="0" font-size="12" text-anchor="middle" '
        f'transform="translate(26 {40 + tall / 2:.0f}) rotate(-90)">{escape(down)}</text></svg>'
    )


def page_svg(title: str, lines: Sequence[str], pictures: Sequence[str]) -> str:
    """One SVG page: a title, lines of monospaced text, and pictures below one another beside it."""
    text_height = 17 * len(lines) + 70
    y, placed = 56.0, []
    for picture in pictures:
        height = float(picture.split('height="', 1)[1].split('"', 1)[0])
        placed.append(f'<g transform="translate(700 {y:.0f})">{picture}</g>')
        y += height + 16
    tall = max(text_height, y) + 16
    text = "".join(
        f'<text x="24" y="{80 + 17 * i}" font-size="13" xml:space="preserve" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1200 {tall:.0f}" font-family="system-ui, sans-serif">'
        "<style>.page{fill:#fff}text{fill:#222}@media(prefers-color-scheme:dark){.page{fill:#16181c}text{fill:#ddd}}"
        f'</style><rect class="page" width="1200" height="{tall:.0f}"/>'
        f'<text x="24" y="40" font-size="22" font-weight="600">{escape(title)}</text>{text}{"".join(placed)}</svg>'
    )
