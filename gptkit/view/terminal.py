"""A model in a terminal: tree, tables and pictures, in colour where it can be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptkit.pictures import Line, heatmap_lines, mask_lines, scale_of
from gptkit.pictures.grid import number
from gptkit.pictures.terminal import Signs, ramp_note
from gptkit.view.sheet import Sheet
from gptkit.view.sights import Sight
from gptkit.view.tables import memory_lines, operation_lines, part_lines
from gptkit.view.tree import heading, tree_lines

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"strong": "bold", "dim": "bright_black", "blue": "blue", "": ""}
_PLAIN = str.maketrans(
    {"│": "|", "├": "|", "└": "`", "─": "-", "×": "x", "→": "->", "–": "-", "…": "..", "≈": "~", "−": "-"}
)
_MOST_MASKS = 4


def signs_of(console: Console) -> Signs:
    """What a terminal can show."""
    try:
        "▀█│→".encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return "ascii"
    colours = console.color_system in ("256", "truecolor", "windows") and not console.no_color
    return "colour" if colours else "blocks"


def show(seen: Sheet, console: Console) -> None:
    """Print all of it."""
    signs = signs_of(console)
    width = min(console.width, 100)
    name, sizes = heading(seen)
    lines: list[Line] = [[(name, "strong")], *([(piece, "dim")] for piece in _wrapped(sizes, width)), []]
    lines += tree_lines(seen, width)
    lines += [[], [("Parts", "strong")], *part_lines(seen, width, signs != "ascii")]
    lines += [[], [("Operations for each token", "strong")], *operation_lines(seen)]
    lines += [[], [("Memory", "strong")], *memory_lines(seen)]
    for sight in seen.masks[:_MOST_MASKS]:
        lines += [[], *mask_picture(sight, signs, width)]
    if not seen.positions:
        lines += [[], [("Position: ", "strong"), ("none is told; only a mask can tell order", "dim")]]
    for sight in seen.positions:
        lines += [[], *heat_picture(sight, signs, width, seen.asked)]
    for line in lines:
        console.print(_rich(line, signs), soft_wrap=True)


def mask_picture(sight: Sight, signs: Signs, width: int = 80) -> list[Line]:
    """A mask with its title and axes."""
    cells = even_cells(sight.span, 48) if signs != "ascii" else min(sight.span, 32)
    shown = min(cells, len(sight.matrix))
    each = sight.span / shown
    note = f"one cell stands for {number(each)} × {number(each)} positions" if each > 1 else ""
    lines = mask_lines(sight.matrix, signs=signs, cells=cells)
    wide = shown * (2 if signs == "ascii" else 1)
    return _framed(sight, lines, wide, [note], (sight.span, sight.span), width)


def even_cells(span: int, most: int) -> int:
    """How many cells to draw `span` positions in: as many as can be, better so that each holds as many."""
    if span <= max(most, 64):
        return span
    return next((cells for cells in range(most, most // 2, -1) if span % cells == 0), most)


def heat_picture(sight: Sight, signs: Signs, width: int = 80, whole: bool = False) -> list[Line]:
    """A heat map with its title, axes and scale.

    Args:
        sight: what to show.
        signs: what the terminal can show.
        width: of the terminal.
        whole: show all positions, with gaps between them, and not the first ones only.
    """
    matrix, rows, columns = sight.matrix, 48, min(64, width - 8)
    if not whole and sight.down == "position":
        matrix = matrix[:rows]
    if not whole and sight.across == "distance":
        matrix = matrix[:, :columns]
    scale = scale_of(matrix, sight.power)
    key = f"blue {number(scale.low)}, orange {number(scale.high)}" if signs == "colour" else ramp_note(matrix)
    lines = heatmap_lines(matrix, signs=signs, rows=rows, columns=columns, scale=scale)
    few = matrix.shape[1] > columns
    left = f"{columns} of {matrix.shape[1]} {sight.across}s" if few else ""
    return _framed(sight, lines, min(columns, matrix.shape[1]), [key, left], matrix.shape, width)


def _framed(
    sight: Sight, lines: list[Line], wide: int, notes: list[str], shape: tuple[int, ...], width: int
) -> list[Line]:
    """A picture with its title above, and the first and last number of each axis."""
    axes = f"{sight.down} down, {sight.across} across"
    told = [note for note in [sight.note, "; ".join(note for note in [axes, *notes] if note)] if note]
    found: list[Line] = [[(sight.title, "strong")]]
    found += [[("  " + line, "dim")] for note in told for line in _wrapped(note, width - 2)]
    for index, line in enumerate(lines):
        end = "0" if index == 0 else f"{shape[0] - 1:,}" if index == len(lines) - 1 else ""
        found.append([(f"{end:>6} ", "dim"), *line])
    return [*found, [(f"{'':>7}0{shape[1] - 1:>{max(1, wide - 1)},}", "dim")]]


def _rich(line: Line, signs: Signs):
    from rich.text import Text

    text = Text()
    for piece, style in line:
        text.append(piece.translate(_PLAIN) if signs == "ascii" else piece, _STYLES.get(style, style))
    text.rstrip()
    return text


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)
