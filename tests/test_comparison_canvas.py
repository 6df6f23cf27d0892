"""What plots make of names that do not fit, of ticks that would stand on one another, and of losses of several sizes."""

from __future__ import annotations

from typing import Any

import pytest

from gptkit.compare import canvas
from gptkit.compare.canvas import Canvas, Frame, shorts
from gptkit.compare.series import Band
from gptkit.compare.tuning import _ticks


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("rotary", "rotary"),
        ("position=rotary, n_heads=8", "position=rotary, n_heads=8"),
        ("position=rotary, attention=gated", "rotary, gated"),
        ("position=rotary, model.n_heads=16", "rotary, model.n_heads=16"),
        ("a-rather-long-name-of-a-variant", "a-rather-lon…-of-a-variant"),
    ],
)
def test_a_long_name_beside_a_plot_keeps_what_tells_it_apart(label: str, text: str) -> None:
    assert shorts([label]) == {label: text}


def test_names_of_one_plot_all_keep_their_keys_or_none_does() -> None:
    told = shorts(["position=rotary, n_layers=16", "position=none, n_layers=1"])
    assert list(told.values()) == ["rotary, n_layers=16", "none, n_layers=1"]


@pytest.mark.parametrize(
    ("tried", "log", "ticks"),
    [
        ([1e-4, 1e-3, 1e-2], True, [1e-4, 1e-3, 1e-2]),
        ([1e-4, 9e-3, 1e-2], True, [1e-4, 1e-2]),
        ([1.0, 2.0, 3.0, 9.0, 9.5], False, [1.0, 9.5]),
    ],
)
def test_no_two_ticks_stand_on_one_another(tried: list[float], log: bool, ticks: list[float]) -> None:
    assert _ticks(tried, log=log) == ticks


def test_a_logarithmic_axis_holds_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    axes: list[Any] = []
    monkeypatch.setattr(canvas, "svg", lambda figure, title: axes.append(figure.axes[0]))
    band = Band([1, 2, 3], [2.0, 0.2, 0.01], [0.0] * 3)
    Canvas(["a"]).lines("t", {"a": band}, Frame("x", "y", log_up=True, limits=(0.01, 2.0)))
    low, high = axes[0].get_ylim()
    assert 0.005 < low < 0.01
    assert 2.0 < high < 4.0


def test_dots_have_a_bar_each_and_no_area_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    axes: list[Any] = []
    monkeypatch.setattr(canvas, "svg", lambda figure, title: axes.append(figure.axes[0]))
    band = Band([1, 2, 3], [2.0, 1.0, 1.5], [0.1, 0.2, 0.3])
    for dots in (True, False):
        Canvas(["a"]).lines("t", {"a": band}, Frame("x", "y", dots=dots))
    bars, area = (axis.collections[0] for axis in axes)
    assert [len(bars.get_paths()), len(area.get_paths())] == [3, 1]
    assert bars.get_paths()[1].vertices.tolist() == [[2, 0.8], [2, 1.2]]


def test_nothing_is_drawn_in_the_frame_past_a_line_that_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    axes: list[Any] = []
    monkeypatch.setattr(canvas, "svg", lambda figure, title: axes.append(figure.axes[0]))
    bands = {
        "slow": Band([1, 5, 10], [3.0, 2.5, 2.0], [0.0] * 3),
        "quick": Band([1, 3, 5], [3, 2.4, 1.9], [0.0] * 3),
    }
    drawn = Canvas(list(bands))
    drawn.lines("t", bands, Frame("time", "loss"))
    ends = {}
    for line in (line for line in axes[0].lines if line.get_transform() == axes[0].transAxes):
        ends[line.get_color()] = line.get_xdata()[0]
    assert ends[drawn.colour("quick")] > 1
    assert 0.9 < ends[drawn.colour("slow")] < 1
