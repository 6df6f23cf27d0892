"""curve.svg: training and validation loss by step, as a picture that any browser opens.

The SVG is written by hand, so drawing needs no plotting library. It scales with its frame and takes
light or dark colours as its reader prefers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, Literal

Scale = Literal["linear", "log"]
Points = list[tuple[float, float]]

WIDTH, HEIGHT = 760, 430
LEFT, RIGHT, TOP, BOTTOM = 62, 84, 62, 52  # margins; the right one holds the last values
SERIES = (("loss", "training", "train"), ("val_loss", "validation", "val"))

_STYLE = """
  svg { --ink: #1f2933; --soft: #667380; --line: #e4e8ec; --train: #5b8fd6; --val: #d9480f; --page: #ffffff }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6eaee; --soft: #98a4b0; --line: #2d353e; --train: #6ea8fe; --val: #ff9f5a; --page: #14181d }
  }
  text { font: 13px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill: var(--soft) }
  .page { fill: var(--page) }
  .title { font-size: 17px; font-weight: 600; fill: var(--ink) }
  .name { fill: var(--ink) }
  .grid { stroke: var(--line); stroke-width: 1 }
  .axis { stroke: var(--soft); stroke-width: 1 }
  .curve { fill: none; stroke-linejoin: round; stroke-linecap: round }
  .train.curve { stroke: var(--train); stroke-width: 1.6 }
  .val.curve { stroke: var(--val); stroke-width: 2.4 }
  .band { fill: var(--train); opacity: 0.3 } .val.band { fill: var(--val) }
  .train.dot { fill: var(--train) } .val.dot { fill: var(--val); stroke: var(--page); stroke-width: 1.2 }
  .value { font-weight: 600 } .train.value { fill: var(--train) } .val.value { fill: var(--val) }
""".strip("\n")


def curve_svg(
    rows: Iterable[Mapping[str, Any]],
    *,
    title: str = "Loss by step",
    x_scale: Scale = "linear",
    y_scale: Scale = "linear",
) -> str:
    """The loss curves of a run.

    Args:
        rows: metrics, as `metrics.read` gives them; values that are not finite leave a gap.
        title: stands above.
        x_scale: `log` spreads the first steps out.
        y_scale: `log` makes a power law of the steps a straight line, with `x_scale` the same.

    Returns:
        A whole SVG document.
    """
    rows = list(rows)
    curves = {key: series(rows, key) for key, _, _ in SERIES}
    points = [point for curve in curves.values() for point in curve if math.isfinite(point[1])]
    if not points:
        return _document(title, [_text(WIDTH / 2, HEIGHT / 2, "no metrics yet", anchor="middle")])
    steps = [p[0] for p in points] + ([0.0] if x_scale == "linear" else [])
    x = Axis(steps, x_scale, LEFT, WIDTH - RIGHT, count=7, snug=True)
    y = Axis([p[1] for p in points], y_scale, HEIGHT - BOTTOM, TOP, count=6)
    body = [*_frame(x, y), *_legend(curves)]
    for key, _, style in SERIES:
        body += _curve(curves[key], style, x, y)
    return _document(title, body + _last_values(curves, x, y))


class Axis:
    """Where numbers stand along one side of a picture, and which of them are written there.

    Args:
        values: all that must find a place.
        scale: `linear`, or `log` for numbers above 0.
        start, end: places of the least and the greatest.
        count: about how many ticks there are.
        snug: end at the last value, not at a round number beyond it.

    Attributes:
        ticks: the numbers to write, rising.
    """

    def __init__(
        self,
        values: Sequence[float],
        scale: Scale,
        start: float,
        end: float,
        *,
        count: int = 6,
        snug: bool = False,
    ) -> None:
        self._warp: Callable[[float], float] = math.log if scale == "log" else float
        least, most = min(values), max(values)
        if scale == "log":
            least, most = max(least, 1e-9), max(most, 1e-9)
        if most <= least:
            most = 2 * least or 1.0
        self.ticks = (log_ticks if scale == "log" else linear_ticks)(least, most, count)
        if snug:
            self.ticks = [tick for tick in self.ticks if least <= tick <= most]
        self.least, self.most = min(least, *self.ticks), max(most, *self.ticks)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        """The place of a number."""
        low, high = self._warp(self.least), self._warp(self.most)
        share = (self._warp(min(max(value, self.least), self.most)) - low) / (high - low)
        return self._start + share * (self._end - self._start)

    def labels(self) -> list[str]:
        """The ticks as text, all in one unit and to one place: 1.50, 2.00; 50k, 100k."""
        if self._warp is math.log:
            return [short(tick) for tick in self.ticks]
        top = max(map(abs, self.ticks))
        unit, name = (1e6, "M") if top >= 1e6 else (1e3, "k") if top >= 1e5 else (1.0, "")
        shown = [tick / unit for tick in self.ticks]
        exact = (n for n in range(8) if all(abs(round(v, n) - v) < 1e-9 * max(1, abs(v)) for v in shown))
        places = next(exact, 8)
        return [f"{number:,.{places}f}{name if number else ''}" for number in shown]


def linear_ticks(least: float, most: float, count: int) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, that reach just around a range."""
    raw = (most - least) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.75)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(least: float, most: float, count: int) -> list[float]:
    """Round numbers of a logarithmic axis: powers of ten, with 2 and 5 between them if there is room."""
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    for digits in (range(1, 10), (1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**p for p in range(low, high + 1) for d in digits]
        inside = [t for t in ticks if least * 0.999 <= t <= most * 1.001]
        if 2 <= len(inside) <= count + 1:
            return inside
    return inside[:: max(1, math.ceil(len(inside) / count))] or [least, most]


def series(rows: Iterable[Mapping[str, Any]], key: str) -> Points:
    """(step, value) for each row that has a value; a later row of a step takes the place of an earlier."""
    found = {
        row["step"]: row[key] for row in rows if isinstance(row.get(key), (int, float)) and "step" in row
    }
    return sorted((float(step), float(value)) for step, value in found.items())


def short(number: float) -> str:
    """A number as an axis shows it: 0.5, 2,000, 50k, 2M."""
    if abs(number) >= 1e6:
        return f"{number / 1e6:g}M"
    return f"{number / 1e3:g}k" if abs(number) >= 1e4 else f"{number:,g}"


def columns(points: Points, place: Callable[[float], float]) -> list[tuple[float, float, float, float]]:
    """(place, mean, least, greatest) of the points of each column of pixels; all NaN where one is a gap."""
    found: dict[int, Points] = {}
    for point in points:
        found.setdefault(round(place(point[0])), []).append(point)
    result = []
    for members in found.values():
        steps, values = zip(*members, strict=True)
        middle = sum(map(place, steps)) / len(steps)
        mean = sum(values) / len(values)
        whole = math.isfinite(mean)
        result.append((middle, mean, min(values) if whole else mean, max(values) if whole else mean))
    return result


def _document(title: str, body: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">'
    )
    lines = [head, f"<title>{escape(title)}</title>", f"<style>\n{_STYLE}\n</style>"]
    lines += [
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
        _text(LEFT, 32, title, "title"),
    ]
    return "\n".join([*lines, *body, "</svg>", ""])


def _frame(x: Axis, y: Axis) -> list[str]:
    """Grid, ticks and the names of the axes."""
    left, right, bottom = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick, label in zip(y.ticks, y.labels(), strict=True):
        parts.append(f'<path class="grid" d="M{left} {y(tick):.1f}H{right}"/>')
        parts.append(_text(left - 9, y(tick) + 4.5, label, anchor="end"))
    for tick, label in zip(x.ticks, x.labels(), strict=True):
        parts.append(f'<path class="axis" d="M{x(tick):.1f} {bottom}v5"/>')
        parts.append(_text(x(tick), bottom + 20, label, anchor="middle"))
    parts.append(f'<path class="axis" d="M{left} {bottom}H{right}"/>')
    parts.append(_text((left + right) / 2, HEIGHT - 10, "step", anchor="middle"))
    parts.append(_text(right, 32, "nats per token", anchor="end"))
    return parts


def _legend(curves: Mapping[str, Points]) -> list[str]:
    parts, at = [], float(LEFT)
    for key, name, style in SERIES:
        if curves[key]:
            parts.append(f'<path class="{style} curve" d="M{at:.0f} 47h20"/>')
            parts.append(_text(at + 27, 51.5, name, "name"))
            at += 27 + 7 * len(name) + 22
    return parts


def _curve(points: Points, style: str, x: Axis, y: Axis) -> list[str]:
    """A curve in whole stretches between gaps; where columns hold several points, their mean and range."""
    stretches: list[list[tuple[float, float, float, float]]] = [[]]
    for column in columns(points, x):
        if math.isfinite(column[1]):
            stretches[-1].append(column)
        elif stretches[-1]:
            stretches.append([])
    parts = []
    for stretch in filter(None, stretches):
        if any(low < high for _, _, low, high in stretch):
            edge = [(at, low) for at, _, low, _ in stretch] + [(at, high) for at, _, _, high in stretch[::-1]]
            parts.append(f'<path class="{style} band" d="{_path(edge, y)}Z"/>')
        parts.append(f'<path class="{style} curve" d="{_path([(c[0], c[1]) for c in stretch], y)}"/>')
    if len(points) <= 60 and (style == "val" or len(points) == 1):
        finite = [point for point in points if math.isfinite(point[1])]
        parts += [f'<circle class="{style} dot" cx="{x(s):.1f}" cy="{y(v):.1f}" r="3.6"/>' for s, v in finite]
    return parts


def _path(points: Points, y: Axis) -> str:
    return "M" + "L".join(f"{at:.1f} {y(value):.1f}" for at, value in points)


def _last_values(curves: Mapping[str, Points], x: Axis, y: Axis) -> list[str]:
    """The last value of each curve beside its end, moved apart where they would touch."""
    ends = []
    for key, _, style in SERIES:
        finite = [point for point in curves[key] if math.isfinite(point[1])]
        if finite:
            ends.append([y(finite[-1][1]), finite[-1][1], style])
    ends.sort(key=lambda end: end[0])
    if len(ends) == 2 and (gap := ends[1][0] - ends[0][0]) < 16:
        ends[0][0] -= (16 - gap) / 2
        ends[1][0] += (16 - gap) / 2
    return [_text(WIDTH - RIGHT + 9, at + 4.5, f"{value:.3f}", f"{style} value") for at, value, style in ends]


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    classes = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{classes}>{escape(text)}</text>'
