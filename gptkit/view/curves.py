"""Pictures of parts that are functions: schedules, feed-forward networks, norms, samplers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from gptkit.pictures import Figure
from gptkit.pictures.svg import bars_figure, escape
from gptkit.registry import Component

_STEPS = 400  # of training, in a schedule's picture
_REACH = 4.0  # numbers that a curve is drawn for, on either side of 0
_POINTS = 161
_SCORES = (3.0, 2.2, 1.6, 1.1, 0.6, 0.2, -0.4, -1.0, -2.0, -3.5)  # of the next token, in a sampler's picture

Options = Mapping[str, Any]
Points = Sequence[tuple[float, float]]


def schedule(component: Component, options: Options) -> Iterator[Figure]:
    """The learning rate over a training, as a share of the largest."""
    made = component.load()(**options)
    points = [(step / (_STEPS - 1), float(made.factor(step, _STEPS))) for step in range(_STEPS)]
    panel = _panel(points, 400, 120, (0.0, 1.0), marks=(0, 0.5, 1))
    named = '<text class="small" x="34" y="162">first step</text>'
    last = f'<text class="small" x="400" y="162" text-anchor="end">step {_STEPS}</text>'
    yield _titled("Learning rate, as a share of the largest", [panel], more=named + last)


def falling(values: Sequence[float], title: str) -> Figure:
    """A number by step, from 0 to the largest."""
    return over_steps([(float(step), value) for step, value in enumerate(values)], title)


def over_steps(
    points: Points, title: str, *, behind: Points = (), note: str = "", width: float = 330
) -> Figure:
    """A number that is largest at first or least 0, by step.

    Args:
        points: steps and numbers.
        title: stands above.
        behind: the steps and numbers of a fainter curve.
        note: stands below.
        width: of the whole piece, in pixels.
    """
    every = [*points, *behind]
    low, high = min(0.0, *(y for _, y in every)), max(y for _, y in every)
    marks = (low, 0.0, high) if low < 0 else (0.0, high / 2, high)
    last = max(x for x, _ in every)
    panel = _panel(points, width, 120, (low, high), marks=marks, behind=behind)
    below = f'<text class="small" x="34" y="162">{escape(note)}</text>' if note else ""
    end = f'<text class="small" x="{width:g}" y="162" text-anchor="end">step {last:g}</text>'
    return _titled(title, [panel], more=below + end)


def crossing(points: Points, reach: float, title: str) -> Figure:
    """A number as a function of another, both from `-reach` to `reach`."""
    panel = _panel(points, 400, 150, (-reach, reach), marks=(-reach, 0.0, reach), zero=True)
    ends = (("34", "start", -reach), ("217", "middle", 0.0), ("400", "end", reach))
    named = "".join(
        f'<text class="small" x="{x}" y="192" text-anchor="{anchor}">{value:g}</text>'
        for x, anchor, value in ends
    )
    return _titled(title, [panel], more=named)


def feed_forward(component: Component, options: Options) -> Iterator[Figure]:
    """What the network makes of a single number where all its weights are 1, for each of its activations."""
    import torch

    from gptkit.model.interfaces import ModelShape

    shape = ModelShape(8, 8, 1, 1, 1, 1, 1, 1)

    def value(given: Options) -> Callable[[Any], Any]:
        part = component.load()(shape, **given).eval()
        for tensor in part.parameters():
            tensor.data.fill_(1.0 if tensor.ndim > 1 else 0.0)
        return lambda x: part(x.view(1, -1, 1)).flatten().detach()

    choices = next(
        ((o.name, get_args(o.type)) for o in component.declaration.options if get_origin(o.type) is Literal),
        ("", ()),
    )
    x = torch.linspace(-_REACH, _REACH, _POINTS)
    names = choices[1] or ("",)
    drawn = [(name, value({**options, **({choices[0]: name} if name else {})})(x)) for name in names]
    if any(float(y.max() - y.min()) > 0 for _, y in drawn):
        yield _multiples("The output, for weights of 1", x, drawn)


def norm(component: Component, options: Options) -> Iterator[Figure]:
    """One number after the norm, where the 15 others of its vector are 1 and -1 by turns."""
    import torch

    part = component.load()(16, **options).eval()
    x = torch.linspace(-_REACH, _REACH, _POINTS)
    rows = torch.ones(_POINTS, 16)
    rows[:, 1::2] = -1.0
    rows[:, 0] = x
    yield _multiples("One number of 16, after the norm", x, [("", part(rows)[:, 0].detach())])


def sampler(component: Component, options: Options) -> Iterator[Figure]:
    """The chance of each of ten tokens, beside the softmax of their scores."""
    import torch

    scores = torch.tensor([_SCORES])
    plain = scores.softmax(-1)[0].tolist()
    chance = component.load()(**options).probabilities(scores)[0].tolist()
    bars = [
        (f"score {score:g}", made, f"{made:.1%}, softmax {before:.1%}")
        for score, made, before in zip(_SCORES, chance, plain, strict=True)
    ]
    yield bars_figure(bars, "The chance of a token", label=90)


def _multiples(title: str, x: Any, drawn: Sequence[tuple[str, Any]]) -> Figure:
    """One small panel for each curve, four in a row, all with the same bounds."""
    values = [float(v) for _, y in drawn for v in y if math.isfinite(float(v))]
    bounds = max(-_REACH, min([*values, -1.0])), min(_REACH, max([*values, 1.0]))
    wide, tall = (150.0, 110.0) if len(drawn) > 1 else (300.0, 150.0)
    panels = []
    for name, y in drawn:
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        panels.append(
            _panel(points, wide, tall, bounds, marks=(bounds[0], 0, bounds[1]), name=name, zero=True)
        )
    return _titled(title, panels)


def _titled(title: str, panels: Sequence[Figure], more: str = "") -> Figure:
    """Panels in rows of four below a title."""
    wide, tall = panels[0].width + 10, panels[0].height + 14
    placed = [panel.at((i % 4) * wide, 26 + (i // 4) * tall) for i, panel in enumerate(panels)]
    width = max(wide * min(4, len(panels)), 7.0 * len(title))
    height = 26 + tall * math.ceil(len(panels) / 4) + (6 if more else 0)
    return Figure(width, height, f'<text class="title" y="12">{escape(title)}</text>{"".join(placed)}{more}')


def _panel(
    points: Points, width: float, height: float, bounds: tuple[float, float], *,
    marks: Sequence[float], name: str = "", zero: bool = False, behind: Points = (),
) -> Figure:  # fmt: skip
    """A curve in a frame, cut where it leaves the bounds; `zero` draws the two axes, `behind` a fainter curve."""
    left, (low, high) = 34.0, bounds
    widest = max(points, behind, key=len)
    first, last = widest[0][0], widest[-1][0]

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (width - left) * (x - first) / (last - first), height * (high - y) / (high - low)

    def drawn(curve: Points, stroke: str) -> list[str]:
        pieces: list[list[str]] = [[]]
        inside = [low <= y <= high for _, y in curve]
        for (point, seen), (_, after) in pairwise([*zip(curve, inside, strict=True), ((0.0, 0.0), False)]):
            if seen:
                pieces[-1].append("{:.1f},{:.1f}".format(*at(*point)))
            if seen and not after:
                pieces.append([])
        return [
            f'<polyline points="{" ".join(piece)}" fill="none" {stroke}/>'
            for piece in pieces
            if len(piece) > 1
        ]

    axes = ""
    if zero:
        (x0, y0) = at(0.0, 0.0)
        axes = (
            f'<path d="M{left} {y0:.1f}H{width}M{x0:.1f} 0V{height}" stroke="var(--line)" stroke-width="1"/>'
        )
    body = [
        f'<rect class="frame" x="{left}" y="0" width="{width - left}" height="{height}"/>{axes}',
        *(
            f'<text class="small" x="{left - 6}" y="{at(first, v)[1] + 4:.0f}" text-anchor="end">{v:.2g}</text>'
            for v in marks
        ),
        *drawn(behind, 'stroke="var(--soft)" stroke-opacity="0.6" stroke-width="1"'),
        *drawn(points, 'stroke="var(--blue)" stroke-width="2"'),
        f'<text class="small" x="{left + 5}" y="12">{escape(name)}</text>' if name else "",
    ]
    return Figure(width, height, "".join(body))
