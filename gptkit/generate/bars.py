"""Ranked next tokens as bars: in a terminal, and as an SVG that any browser opens. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from gptkit.generate.next_tokens import NextToken

_VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xa0\xad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ufffe\uffff\ud800-\udfff]"
)
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_WIDTH, _ROW, _TOP, _SIDE, _LABEL, _VALUE = 760, 30, 78, 28, 190, 70
_TITLE_LENGTH = 80
_STYLE = """
  svg { --ink: #1f2933; --soft: #667380; --bar: #5b8fd6; --page: #ffffff }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6eaee; --soft: #98a4b0; --bar: #6ea8fe; --page: #14181d }
  }
  text { font: 14px ui-monospace, "SF Mono", Consolas, "DejaVu Sans Mono", monospace; fill: var(--ink) }
  .title { font-size: 16px; font-weight: 600 }
  .soft { fill: var(--soft) }
  .page { fill: var(--page) }
  .bar { fill: var(--bar) }
""".strip("\n")


def visible(text: str) -> str:
    """The text on one line, with signs for white space; what else cannot be seen is written as its code."""
    shown = "".join(_VISIBLE.get(character, character) for character in text)
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), shown)


def percent(share: float) -> str:
    """`12.3 %`; `< 0.1 %` where it would read as nothing."""
    return f"{share:.1%}".replace("%", " %") if share >= 0.0005 or share == 0 else "< 0.1 %"


def bar(share: float, cells: int, eighths: bool = True) -> str:
    """A bar of `share` times `cells`, to an eighth of a cell; in `#` where a terminal has no blocks."""
    if not eighths:
        return "#" * round(share * cells)
    whole, part = divmod(round(share * cells * 8), 8)
    return _EIGHTHS[8] * whole + (_EIGHTHS[part] if part else "")


def table(tokens: Sequence[NextToken], width: int, eighths: bool = True) -> Table:
    """Rank, token, bar and percentage for `rich` to print.

    Args:
        tokens: the most probable first.
        width: columns of the terminal.
        eighths: whether it can show block characters.
    """
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    labels = [visible(token.text) or "(nothing)" for token in tokens]
    room = max(10, min(24, width // 3))
    grid.add_column(justify="right", style="dim")
    grid.add_column(max_width=room, no_wrap=True, overflow="ellipsis", style="bold")
    grid.add_column(no_wrap=True, style="cyan")
    grid.add_column(justify="right", no_wrap=True)
    taken = max((Text(label).cell_len for label in labels), default=0)
    cells = max(4, width - min(taken, room) - len(str(len(tokens))) - 3 - len("100.0 %"))
    largest = max((token.probability for token in tokens), default=1.0) or 1.0
    for rank, (token, label) in enumerate(zip(tokens, labels, strict=True), 1):
        drawn = bar(token.probability / largest, min(cells, 50), eighths)
        grid.add_row(str(rank), Text(label), drawn, percent(token.probability))
    return grid


def svg(prompt: str, tokens: Sequence[NextToken]) -> str:
    """The same as a picture, in light or dark colours as its reader prefers.

    Args:
        prompt: stands above; only its end if it is long.
        tokens: the most probable first.
    """
    height = _TOP + _ROW * len(tokens) + _SIDE
    shown = " ".join(prompt.split())
    shown = "… " + shown[-_TITLE_LENGTH:] if len(shown) > _TITLE_LENGTH else shown
    body = [
        f'<text class="title" x="{_SIDE}" y="38">{_xml(shown)} …</text>',
        f'<text class="soft" x="{_SIDE}" y="60">the {len(tokens)} most probable next tokens</text>',
    ]
    largest = max((token.probability for token in tokens), default=1.0) or 1.0
    room = _WIDTH - 2 * _SIDE - _LABEL - _VALUE
    for index, token in enumerate(tokens):
        y = _TOP + _ROW * index
        length = room * token.probability / largest
        label = visible(token.text) or "(nothing)"
        label = label[:19] + "…" if len(label) > 20 else label
        x = _SIDE + _LABEL
        body += [
            f'<text x="{x - 12}" y="{y + 19}" text-anchor="end">{_xml(label)}</text>',
            f'<rect class="bar" x="{x}" y="{y + 4}" width="{length:.1f}" height="{_ROW - 8}" rx="3"/>',
            f'<text class="soft" x="{x + length + 8:.1f}" y="{y + 19}">{_xml(percent(token.probability))}</text>',
        ]
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<title>Next tokens</title>'
    page = f'<rect class="page" width="{_WIDTH}" height="{height}"/>'
    return "\n".join([head, f"<style>\n{_STYLE}\n</style>", page, *body, "</svg>", ""])


def _xml(text: str) -> str:
    """Text that XML can hold."""
    return escape(_HIDDEN.sub(lambda found: visible(found[0]), text), quote=False)
