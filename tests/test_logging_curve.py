"""The loss curve, as a picture and in the terminal."""

from __future__ import annotations

import itertools
import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptkit.train.curve import Axis, columns, curve_svg, linear_ticks, log_ticks, series, short
from gptkit.train.terminal_curve import terminal_curve

SVG = "{http://www.w3.org/2000/svg}"
ROWS = [
    {"step": s, "loss": 2 + 3 / s, **({"val_loss": 2.1 + 3 / s} if s % 10 == 0 else {})} for s in range(1, 51)
]


def places(picture: str, style: str) -> list[list[tuple[float, float]]]:
    """The points of each path of a style."""
    paths = [
        p.get("d", "") for p in ElementTree.fromstring(picture).iter(f"{SVG}path") if p.get("class") == style
    ]
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)] for path in paths]


def words(picture: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_every_point_stands_where_the_axes_say() -> None:
    picture = curve_svg(ROWS)
    legend, curve = places(picture, "train curve")
    assert len(curve) == 50
    x_ticks, y_ticks = {}, {}
    for text in ElementTree.fromstring(picture).iter(f"{SVG}text"):
        word = "".join(text.itertext())
        if re.fullmatch(r"[\d.,]+", word):
            if text.get("text-anchor") == "middle":
                x_ticks[float(word)] = float(text.get("x", ""))
            elif text.get("text-anchor") == "end":
                y_ticks[float(word)] = float(text.get("y", "")) - 4.5
    (x0, px0), (x1, px1) = min(x_ticks.items()), max(x_ticks.items())
    (y0, py0), (y1, py1) = min(y_ticks.items()), max(y_ticks.items())
    for (px, py), row in zip(curve, ROWS, strict=True):
        assert px == pytest.approx(px0 + (row["step"] - x0) / (x1 - x0) * (px1 - px0), abs=0.11)
        assert py == pytest.approx(py0 + (row["loss"] - y0) / (y1 - y0) * (py1 - py0), abs=0.16)
    assert legend


def test_title_legend_and_last_values_are_there() -> None:
    picture = curve_svg(ROWS, title="a < b & c")
    assert {"a < b & c", "training", "validation", "step", "nats per token", "2.060", "2.160"} <= set(
        words(picture)
    )
    assert "prefers-color-scheme: dark" in picture
    assert ElementTree.fromstring(picture).get("viewBox") == "0 0 760 430"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"step": 1}],
        [{"step": 1, "loss": math.nan}],
        [{"step": 0, "loss": 3.0}],
        [{"step": 5, "val_loss": 3.0}],
        [{"step": s, "loss": 2.0} for s in range(9)],
        [{"step": 1, "loss": 0.0}, {"step": 2, "loss": -1.0}],
        [{"step": 1, "loss": 1e30}, {"step": 2, "loss": 1e-30}],
        [{"loss": 1.0}],
    ],
)
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_odd_rows_still_give_a_picture(rows: list[dict[str, float]], scale: str) -> None:
    picture = curve_svg(rows, x_scale=scale, y_scale=scale)  # type: ignore[arg-type]
    assert not re.search(r"\bnan\b|\binf\b", picture)
    ElementTree.fromstring(picture)
    terminal_curve(rows)


def test_a_gap_where_the_loss_is_no_number() -> None:
    rows = [{"step": s, "loss": math.inf if s == 5 else 1.0 / s} for s in range(1, 10)]
    curves = places(curve_svg(rows), "train curve")[1:]
    assert [len(curve) for curve in curves] == [4, 4]


def test_thousands_of_rows_keep_their_spike_and_stay_small() -> None:
    rows = [{"step": s, "loss": 3.0 + (5.0 if s == 50_000 else 0.0)} for s in range(100_000)]
    picture = curve_svg(rows)
    (band,) = places(picture, "train band")
    highest, lowest = min(y for _, y in band), max(y for _, y in band)
    assert (highest, lowest) == (pytest.approx(62, abs=0.1), pytest.approx(378, abs=0.1)), "8 and 3 are ticks"
    assert len(picture) < 60_000


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(-1e6, 1e6)), min_size=1, max_size=60))
def test_columns_hold_the_mean_and_range_of_every_point(points: list[tuple[float, float]]) -> None:
    points = sorted(points)
    found = columns(points, lambda step: step / 10)
    assert min(low for _, _, low, _ in found) == min(v for _, v in points)
    assert max(high for _, _, _, high in found) == max(v for _, v in points)
    assert all(low - 1e-6 <= mean <= high + 1e-6 for _, mean, low, high in found)


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5), st.integers(3, 9))
def test_linear_ticks_are_round_even_and_reach_around(least: float, span: float, count: int) -> None:
    ticks = linear_ticks(least, least + span, count)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= least + 1e-6 * step
    assert ticks[-1] >= least + span - 1e-6 * step
    assert all(b - a == pytest.approx(step) for a, b in itertools.pairwise(ticks))
    assert round(step / 10 ** math.floor(math.log10(step * 1.0001)), 6) in (1, 2, 5, 10)
    assert len(ticks) <= 2 * count + 2


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e9))
def test_log_ticks_stand_inside_and_are_few(least: float, ratio: float) -> None:
    ticks = log_ticks(least, least * ratio, 6)
    assert ticks == sorted(ticks)
    assert 1 <= len(ticks) <= 7
    assert all(least * 0.998 <= tick <= least * ratio * 1.002 for tick in ticks)


def test_labels_share_unit_and_places() -> None:
    labels = Axis([1.6, 5.2], "linear", 0, 1).labels()
    assert len({len(label.partition(".")[2]) for label in labels}) == 1
    assert Axis([0, 160_000], "linear", 0, 1, count=5).labels() == ["0", "50k", "100k", "150k", "200k"]
    assert [short(n) for n in (0.5, 3.0, 2000.0, 50_000.0, 2e6)] == ["0.5", "3", "2,000", "50k", "2M"]


def test_the_last_row_of_a_step_counts() -> None:
    assert series([{"step": 2, "loss": 1.0}, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}], "loss") == [
        (1.0, 3.0),
        (2.0, 2.0),
    ]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("width", "height"), [(46, 11), (30, 6), (76, 20)])
def test_terminal_curve_fits_and_falls(width: int, height: int, plain: bool) -> None:
    lines = [line.plain for line in terminal_curve(ROWS, width, height, plain=plain)]
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert not plain or "".join(lines).isascii()
    marks = [line for line in lines[:-2] if ("o" if plain else "●") in line]
    assert marks
    axis = lines[-2].index("+" if plain else "╰") + 1
    places = [
        (column, row)
        for row, line in enumerate(lines[:-2])
        for column, c in enumerate(line[axis:])
        if c != " "
    ]
    assert min(places)[0] <= 2
    assert min(places)[1] == 0, "the first loss is the greatest"
    assert max(places)[1] >= height - 4, "the last is among the least"
    assert "training" in lines[-1] or width < 40
    assert "50 steps" in lines[-1]
