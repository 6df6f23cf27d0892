"""A model as one SVG page, or as a folder of pictures."""

from __future__ import annotations

from html import escape
from pathlib import Path

from gptkit.generate.bars import percent
from gptkit.numbers import quantity
from gptkit.pictures import (
    Figure,
    Line,
    bars_figure,
    document,
    heatmap_figure,
    mask_figure,
    scale_of,
    text_figure,
)
from gptkit.view.sheet import Sheet
from gptkit.view.sights import Sight
from gptkit.view.tables import memory_lines, operation_lines, rows
from gptkit.view.tree import heading, tree_lines

_TEXT, _SIDE, _GAP = 640, 420, 40
_COLUMNS = 84  # characters of a line of text


def page(seen: Sheet) -> Figure:
    """Tree and cost on the left, masks and positions on the right."""
    name, sizes = heading(seen)
    top = f'<text y="20" class="name">{escape(name)}</text><text class="soft" y="44">{escape(sizes)}</text>'
    left, right = _stack([tree(seen), parts(seen), costs(seen)]), _stack(sights(seen))
    height = 70 + max(left.height, right.height)
    return Figure(_TEXT + _GAP + _SIDE, height, top + left.at(0, 70) + right.at(_TEXT + _GAP, 70))


def tree(seen: Sheet) -> Figure:
    """The model from top to bottom."""
    return text_figure(tree_lines(seen, _COLUMNS), _TEXT)


def parts(seen: Sheet) -> Figure:
    """Parameters, and operations for each token, by part."""
    told = rows(seen)
    counted = [(part, float(count), f"{count:,}") for part, count, _ in told if count]
    worked = [(part, found, quantity(found, "FLOP")) for part, _, found in told if found]
    charts = [_shares(counted, "Parameters"), _shares(worked, "Operations for each token, forward pass")]
    return _stack(charts, gap=22)


def _shares(bars: list[tuple[str, float, str]], title: str) -> Figure:
    """Amounts with their shares of all of them; the longest bar is the largest."""
    total, most = sum(bar[1] for bar in bars) or 1, max((bar[1] for bar in bars), default=0) or 1
    told = [(name, value / most, f"{text} · {percent(value / total)}") for name, value, text in bars]
    return bars_figure(told, title, width=_TEXT - 8, label=100, value=170)


def costs(seen: Sheet) -> Figure:
    """Operations and memory in words."""
    lines: list[Line] = [[("Operations for each token", "strong")], *operation_lines(seen), []]
    return text_figure([*lines, [("Memory", "strong")], *memory_lines(seen)], _TEXT)


def sights(seen: Sheet) -> list[Figure]:
    """Masks and positions."""
    found = [mask(sight) for sight in seen.masks[:4]] + [heat(sight) for sight in seen.positions]
    if not seen.positions:
        found.append(Figure(_SIDE, 40, '<text class="title" y="16">Position: none is told</text>'))
    return found


def mask(sight: Sight) -> Figure:
    """Who may read whom."""
    return mask_figure(sight.matrix, sight.title, note=sight.note, width=340, span=sight.span)


def heat(sight: Sight) -> Figure:
    """How positions are told."""
    return heatmap_figure(
        sight.matrix, sight.title, note=sight.note, across=sight.across, down=sight.down, width=_SIDE,
        scale=scale_of(sight.matrix, sight.power),
    )  # fmt: skip


def _stack(figures: list[Figure], gap: float = 34) -> Figure:
    """Pieces below one another."""
    y, drawn = 0.0, []
    for figure in figures:
        drawn.append(figure.at(0, y))
        y += figure.height + gap
    return Figure(max(figure.width for figure in figures), max(0.0, y - gap), "".join(drawn))


def write_page(seen: Sheet, path: Path) -> None:
    """Write the page.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text(document(page(seen), f"{seen.name}, drawn by gptkit", margin=32), "utf-8")


def write_pictures(seen: Sheet, folder: Path) -> list[Path]:
    """Write the page and each of its pictures; returns the files.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"tree": tree(seen), "parts": parts(seen), "cost": costs(seen)}
    pictures |= {_numbered("mask", i, len(seen.masks)): mask(sight) for i, sight in enumerate(seen.masks)}
    pictures |= {_numbered("position", i, len(seen.positions)): heat(s) for i, s in enumerate(seen.positions)}
    write_page(seen, folder / "model.svg")
    for name, figure in pictures.items():
        (folder / f"{name}.svg").write_text(document(figure, f"{seen.name}: {name}"), "utf-8")
    return [folder / "model.svg", *(folder / f"{name}.svg" for name in pictures)]


def _numbered(name: str, index: int, many: int) -> str:
    return f"{name}_{index + 1}" if many > 1 else name
