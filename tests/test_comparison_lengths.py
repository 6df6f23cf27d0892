"""What a report says of other lengths: on how many tokens, who refuses, and what nobody was asked to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo_sweep import demo
from gptkit.compare import canvas, plots, statistics, tables
from gptkit.compare.ink import Plot
from gptkit.compare.results import Results
from gptkit.compare.series import Band, stops
from test_comparison_report import sections, written

LABELS = ("learned", "rotary", "alibi")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return demo(tmp_path, LABELS, seeds=2)


def with_lengths(results: Results, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Results:
    """The same with each row of lengths changed."""
    runs = [
        dataclasses.replace(
            run, measures={**run.measures, "lengths": [*map(change, run.measures["lengths"])]}
        )
        for run in results.runs
    ]
    return dataclasses.replace(results, runs=runs)


def notes(results: Results) -> str:
    table = tables.lengths(results, results.labels)
    assert table is not None
    return " ".join(table.notes)


def test_the_tokens_that_were_scored_are_told(results: Results) -> None:
    told = sections(written(results))
    assert "scored on 4,096 tokens of its evaluation text at each length" in told["length"]
    assert (
        "of which 256 to 4,096 stand within a quarter of the trained context from a window's start."
        in told["length"]
    )
    sentence = "Each run is scored on 4,800 tokens of its evaluation text."
    assert sentence in told["position"]
    assert sentence in (results.folder / "report.md").read_text("utf-8")
    assert "at least three quarters of the window" in told["length"]
    assert "## Longer" in (results.folder / "report.md").read_text("utf-8").split("scored on 4,096 tokens")[0]


def test_different_counts_are_a_span_and_untold_ones_are_not_made_up(results: Results) -> None:
    fewer = with_lengths(results, lambda row: {**row, "sliding_tokens": 4096 - 16 * row["factor"]})
    assert "scored on 4,032 to 4,096 tokens" in notes(fewer)
    keys = ("non_overlapping_tokens", "sliding_tokens", "early_tokens")
    old = with_lengths(results, lambda row: {key: value for key, value in row.items() if key not in keys})
    assert "scored on" not in notes(old)


def test_a_length_that_nobody_was_asked_to_read_is_no_refusal(results: Results) -> None:
    why = "the evaluation text has 100 tokens, too few for texts of 256"
    skipping = with_lengths(
        results, lambda row: {"factor": 4, "tokens": 256, "skipped": why} if row["factor"] == 4 else row
    )
    table = tables.lengths(skipping, skipping.labels)
    assert table is not None
    assert [row[-1].text for row in table.rows] == ["–", "–", "–"]
    assert f"4 × was not measured: {why}." in table.notes
    assert "rotary refuses" not in " ".join(table.notes)


def test_what_one_variant_was_not_asked_to_read_is_not_said_of_those_that_read_it(results: Results) -> None:
    why = "the scores of 256 tokens may take 4.0 GiB"
    skipping = with_lengths(
        results, lambda row: {"factor": 4, "tokens": 256, "skipped": why} if row["factor"] == 4 else row
    )
    runs = [
        skipped if run.label == "alibi" else run
        for run, skipped in zip(results.runs, skipping.runs, strict=True)
    ]
    some = dataclasses.replace(results, runs=runs)
    assert f"4 × was not measured with alibi: {why}." in notes(some)
    assert f"4 × was not measured: {why}." in notes(skipping)


def test_variants_that_refuse_for_one_reason_are_told_together(results: Results) -> None:
    def refusing(row: dict[str, Any]) -> dict[str, Any]:
        return {"factor": row["factor"], "refused": "positions end"} if row["factor"] > 1 else row

    assert "learned; rotary; alibi refuse from 2 × on: positions end" in notes(
        with_lengths(results, refusing)
    )
    assert "learned refuses from 2 × on: Learned" in notes(results)


def test_a_refusal_cannot_be_read_as_a_loss(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn in a refusing variant's colour past its last loss, and a cross ends its line."""
    drawn: dict[str, Any] = {}

    def keep(figure: Any, title: str) -> Plot:
        drawn[title] = figure.axes[0]
        return Plot(title, "<svg/>")

    monkeypatch.setattr(canvas, "svg", keep)
    plots.draw(results, statistics.compare(results))
    seen = drawn["Sliding windows"]
    texts = {text.get_text(): text.get_position()[0] for text in seen.texts}
    assert {"learned", "refuses past 1 ×"} <= texts.keys()
    colour = canvas.Canvas(results.labels).colour("learned")
    within = seen.transAxes.inverted()
    ends = []
    for line in (line for line in seen.lines if line.get_color() == colour):
        xs = [within.transform(point)[0] for point in line.get_transform().transform(line.get_xydata())]
        ends += [max(xs)] if min(xs) < 1 else []
    [last] = {round(end, 6) for end in ends}
    assert last < 0.7  # the trained context stands in the middle of 0.25 to 4
    assert [line.get_marker() for line in seen.lines if line.get_marker() == "x"] == ["x"]
    assert not [text for text in drawn["By tokens"].texts if "refuses" in text.get_text()]


def test_only_what_lies_beyond_a_line_ends_it() -> None:
    read = {"a": Band([1, 2], [3.0, 3.0], [0.0, 0.0]), "b": Band([1, 2], [3.0, 3.0], [0.0, 0.0])}
    assert stops(read, {"a": {4.0: "why"}, "b": {0.25: "too short"}}, " ×") == {"a": "refuses past 2 ×"}
