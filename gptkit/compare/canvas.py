"""Two kinds of plots, by matplotlib: lines with bands, and dots with whiskers."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    ScalarFormatter,
)

from gptkit.compare.ink import INK, LINE, PAGE, PALETTE, SOFT, Plot, svg
from gptkit.compare.series import Band
from gptkit.compare.tables import clean, scaled

LONGEST = 26  # characters of a name
_KEY = re.compile(r"(^|, )[^,=]+=(?=[A-Za-z])")  # of `position=rotary`, but not of `n_heads=8`
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_MARKS = "osD^vPX*"
_STEPS = (1, 2, 5, 10)
_NEAR = 0.9  # of the frame's width, from where a line's end is near enough to its name
_ROW, _TWO_ROWS = 11.0, 20.0  # points that a name takes at a line's end, and one with a word below it
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "axes.linewidth": 0.6,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}


@dataclass(frozen=True)
class Row:
    """One variant of a plot with whiskers; `interval` may be NaN, and `filled` fills the dot of its mean."""

    label: str
    mean: float
    interval: tuple[float, float]
    seeds: Sequence[float] = ()
    filled: bool = True


@dataclass(frozen=True)
class Frame:
    """The axes of lines.

    Attributes:
        across, up: what they measure, with units.
        log, log_up: whether they are logarithmic.
        limits: of the vertical axis.
        ticks: of the horizontal axis.
        dots: draw no line between places.
    """

    across: str
    up: str
    log: bool = False
    log_up: bool = False
    limits: tuple[float, float] | None = None
    ticks: Sequence[float] = ()
    dots: bool = False


Stops = Mapping[str, str]


@contextmanager
def drawing() -> Iterator[None]:
    """Have matplotlib draw in the style of reports, and leave its settings as they were."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that matplotlib's font lacks; the page has its own
        yield


class Canvas:
    """Draws with one colour for each variant.

    Args:
        labels: the variants, in the order that gives them their colours.
        colours: of each, where the lines are no variants; all are then drawn alike but for their colour.
    """

    def __init__(self, labels: Sequence[str], colours: Mapping[str, str] | None = None) -> None:
        self.numbers = {label: number for number, label in enumerate(labels)}
        self.short = shorts(labels)
        self.colours = colours

    def whiskers(self, title: str, rows: Sequence[Row], across: str, *, zero: bool = False) -> Plot:
        """A mean with its interval in each row, above the dots of its seeds.

        Args:
            title: what it shows.
            rows: from top to bottom.
            across: of the horizontal axis: what, and its unit.
            zero: draw a line there.
        """
        names = [self.short[row.label] for row in rows]
        ax = _axes(left=12 + 5.8 * max(map(len, names)), right=12, height=46 + 19 * len(rows))
        known = [value for row in rows for value in (*row.seeds, row.mean)] + [0.0] * zero
        low, high = min(known), max(known)
        span = (high - low) or abs(high) * 0.01 or 1.0
        for place, row in enumerate(rows):
            colour = self.colour(row.label)
            if math.isfinite(row.interval[0]):
                ax.plot(row.interval, [place, place], color=colour, lw=1.3, solid_capstyle="butt")
            ax.plot(row.seeds, [place + 0.3] * len(row.seeds), "o", ms=2.6, mew=0, color=colour, alpha=0.7)
            ax.plot([row.mean], [place], "o", ms=5.5, mew=1.2, mec=colour, mfc=colour if row.filled else PAGE)
        if zero:
            ax.axvline(0, color=SOFT, lw=0.8)
        ends = [end for row in rows for end in row.interval if math.isfinite(end)]
        first, last = max(min([low, *ends]), low - span), min(max([high, *ends]), high + span)
        ax.set_xlim(first - 0.05 * span, last + 0.05 * span)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_yticks(range(len(rows)), names)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="x", color=LINE, lw=0.6)
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        ax.xaxis.set_major_formatter(_plain())
        ax.set_xlabel(across)
        return svg(ax.figure, title)

    def lines(
        self, title: str, bands: Mapping[str, Band], frame: Frame, stops: Stops = MappingProxyType({})
    ) -> Plot:
        """Means as lines with a band, each named at its end.

        Args:
            title: what it shows.
            bands: one for each variant.
            frame: the axes.
            stops: why variants went no further than their line, such as `refuses past 1`; a cross ends it.
        """
        longest = max(len(self.short[name]) for name in bands)
        longest = max([longest, *(0.8 * len(why) for name, why in stops.items() if name in bands)])
        rows = _ROW * len(bands) + (_TWO_ROWS - _ROW) * len(stops.keys() & bands.keys())
        ax = _axes(left=50, right=20 + 5.6 * longest, height=max(204, 58 + rows))
        for name, band in bands.items():
            self._line(ax, name, band, dots=frame.dots)
            if name in stops:
                ax.plot(band.x[-1:], band.mean[-1:], "x", color=self.colour(name), ms=6.5, mew=1.8)
        if frame.log:
            ax.set_xscale("log", base=2)
            ax.xaxis.set_minor_locator(NullLocator())
        else:
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        if frame.ticks:
            ax.xaxis.set_major_locator(FixedLocator(frame.ticks))
        if frame.log_up:
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
        else:
            ax.yaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
            ax.yaxis.set_major_formatter(_plain())
        if frame.limits:
            low, high = map(math.log, frame.limits) if frame.log_up else frame.limits
            room = 0.06 * (high - low or 1.0)
            ends = (low - room, high + room)
            ax.set_ylim(*(map(math.exp, ends) if frame.log_up else ends))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: scaled(value)))
        ax.grid(axis="y", color=LINE, lw=0.6)
        ax.set_xlabel(frame.across)
        ax.set_ylabel(frame.up)
        ax.yaxis.set_label_coords(-0.2, 0.5)
        self._name_ends(ax, bands, stops)
        return svg(ax.figure, title)

    def _line(self, ax: Any, name: str, band: Band, *, dots: bool = False) -> None:
        colour = self.colour(name)
        few = dots or len(band.x) < 10
        ax.plot(
            band.x,
            band.mean,
            color=colour,
            ls="" if dots else self._dash(name),
            marker=self._mark(name) if few else "",
            ms=3.4,
            mew=0,
        )
        if any(band.sd):
            low, high = ([m + sign * s for m, s in zip(band.mean, band.sd, strict=True)] for sign in (-1, 1))
            if dots:
                ax.vlines(band.x, low, high, color=colour, alpha=0.5, lw=1.0)
            else:
                ax.fill_between(band.x, low, high, color=colour, alpha=0.16, lw=0)

    def _name_ends(self, ax: Any, held: Mapping[str, Band], stops: Stops) -> None:
        """Write each variant's name right of its line, none upon another.

        A line leads from its end to its name, but not where it was stopped, or ended long before others:
        that would look like more values.
        """
        ax.autoscale_view()  # only then do data have a place
        inverse = ax.transAxes.inverted()
        ends = []
        for name, band in held.items():
            x, y = inverse.transform(ax.transData.transform((band.x[-1], band.mean[-1])))
            ends.append([min(max(float(y), 0.0), 1.0), name, float(x)])
        ends.sort()
        height = ax.get_position().height * ax.figure.get_figheight() * 72
        places, rooms = [end[0] for end in ends], [_TWO_ROWS if end[1] in stops else _ROW for end in ends]
        gaps = [(low + high) / 2 / height for low, high in itertools.pairwise(rooms)]
        for i in range(1, len(places)):
            places[i] = max(places[i], places[i - 1] + gaps[i - 1])
        over = max(0.0, places[-1] - 1.0)
        places[-1] -= over
        for i in range(len(places) - 2, -1, -1):
            places[i] = min(places[i], places[i + 1] - gaps[i])
        for (y, name, x), place in zip(ends, places, strict=True):
            near = x > _NEAR and name not in stops
            led = ([x, 1.02, 1.04], [y, place, place]) if near else ([1.02, 1.04], [place, place])
            ax.plot(*led, color=self.colour(name), lw=0.7, transform=ax.transAxes, clip_on=False)
            above = 4.0 / height if name in stops else 0.0
            ax.text(1.055, place + above, self.short[name], transform=ax.transAxes, va="center")
            if name in stops:
                ax.text(
                    1.055,
                    place - above,
                    stops[name],
                    transform=ax.transAxes,
                    va="center",
                    color=SOFT,
                    size=7.5,
                )

    def colour(self, label: str) -> str:
        return self.colours[label] if self.colours else PALETTE[self.numbers[label] % len(PALETTE)][0]

    def _dash(self, label: str) -> Any:
        return _DASHES[0 if self.colours else self.numbers[label] // len(PALETTE) % len(_DASHES)]

    def _mark(self, label: str) -> str:
        return _MARKS[0 if self.colours else self.numbers[label] % len(_MARKS)]


def shorts(labels: Iterable[str]) -> dict[str, str]:
    """Labels that fit beside a plot: if one is too long, all are told by their words without the keys, so that no
    two are told in different ways; of what still is too long both ends."""
    texts = {label: clean(label) for label in labels}
    if any(len(text) > LONGEST for text in texts.values()):
        texts = {label: _KEY.sub(r"\1", text) for label, text in texts.items()}
    return {
        label: text if len(text) <= LONGEST else f"{text[: LONGEST // 2 - 1]}…{text[-LONGEST // 2 :]}"
        for label, text in texts.items()
    }


def _axes(left: float, right: float, height: float) -> Any:
    """Axes of fixed width with room for names at their sides; all in points."""
    wide, below, above = 200.0, 38.0, 8.0
    figure = Figure(figsize=((left + wide + right) / 72, height / 72))
    whole = left + wide + right
    return figure.add_axes((left / whole, below / height, wide / whole, (height - below - above) / height))


def _plain() -> ScalarFormatter:
    """Ticks as whole numbers, all with as many places, none measured from another."""
    made = ScalarFormatter(useOffset=False)
    made.set_scientific(False)
    return made
