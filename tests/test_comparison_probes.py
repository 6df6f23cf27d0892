"""Accuracy by length in a report: means over seeds, refusals shown, and nothing from a stranger's folder believed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gptkit.compare import honesty, pairing, probes, report, statistics
from gptkit.compare.asked import read
from gptkit.compare.results import Point, Results, Trained
from gptkit.errors import UserError

ACCURACY = {"rotary": (1.0, 0.5, 0.0), "learned": (0.9, 0.4, None)}


def run(label: str, seed: int, splits: Any) -> Trained:
    point = Point(seed, {"position": label}, seed, [])
    result = {
        "status": "finished",
        "val_loss": 1.0 + 0.01 * seed + 0.1 * (label == "learned"),
        "splits": splits,
    }
    return Trained(point, Path(f"{label}-{seed}"), "finished", result)


def splits(label: str, seed: int) -> dict[str, Any]:
    told: dict[str, Any] = {"val": {"length": None, "trained": True, "accuracy": 0.7, "token_accuracy": 0.8}}
    for length, share in zip((4, 8, 16), ACCURACY[label], strict=True):
        facts: dict[str, Any] = {"length": length, "trained": length <= 8, "examples": 10}
        if share is None:
            facts["refused"] = "learned positions end at 31"
        else:
            facts |= {
                "accuracy": share - 0.01 * (seed - 2) * (length == 8),
                "token_accuracy": share,
                "loss": 1.0,
            }
        told[f"length_{length}"] = facts
    return told


@pytest.fixture
def results(tmp_path: Path) -> Results:
    runs = [run(label, seed, splits(label, seed)) for label in ACCURACY for seed in (1, 2, 3)]
    return Results(tmp_path, ["position"], ["position=rotary,learned"], runs)


def test_accuracy_is_the_mean_over_seeds_with_its_spread(results: Results) -> None:
    runs = list(results.finished("rotary").values())
    band = probes.by_length(runs, "accuracy")
    assert band is not None
    assert list(band.x) == [4, 8, 16]
    assert list(band.mean) == pytest.approx([1.0, 0.5, 0.0])
    assert list(band.sd) == pytest.approx([0.0, 0.01, 0.0])
    assert probes.trained_up_to(results) == 8


def test_the_table_marks_lengths_unseen_and_refused(results: Results) -> None:
    table = probes.table(results, ["rotary", "learned"])
    assert table is not None
    assert table.header == ["variant", "4", "8", "16 (unseen)"]
    assert [cell.text for cell in table.rows[0]] == ["rotary", "100.0 %", "50.0 %", "0.0 %"]
    assert [cell.text for cell in table.rows[1]] == ["learned", "90.0 %", "40.0 %", "refuses"]
    assert table.rows[1][1].note == "tokens 90.0 %"
    assert "learned refuses from 16 on: learned positions end at 31" in table.notes


def test_every_form_of_the_report_tells_it(results: Results) -> None:
    comparison = statistics.compare(results)
    report.write(results, comparison, honesty.warnings(results, comparison), pairing.proofs(results))
    page = (results.folder / "report.html").read_text("utf-8")
    assert 'id="answers"' in page
    assert "trained up to 8" in page
    assert "16 (unseen)" in page
    words = (results.folder / "report.md").read_text("utf-8")
    assert "## Answers by length" in words
    assert "refuses" in words
    drawn = {path.stem for path in (results.folder / "plots").glob("probe-*.svg")}
    assert drawn == {"probe-accuracy", "probe-token-accuracy"}


@pytest.mark.parametrize(
    ("metric", "unit"), [("length_8_error", "answers"), ("length_8_token_error", "tokens")]
)
def test_variants_can_be_compared_by_the_share_that_is_wrong(
    results: Results, metric: str, unit: str
) -> None:
    found = statistics.compare(results, metric)
    assert [one.label for one in found.ranking] == ["rotary", "learned"]
    assert [one.mean for one in found.ranking] == pytest.approx([0.5, 0.6])
    assert found.unit == f"share of wrong {unit}"
    with pytest.raises(UserError, match="No run tells 'length_9_error'"):
        statistics.compare(results, "length_9_error")


def test_a_metric_that_is_none_is_refused_with_those_that_are() -> None:
    assert not read({"metric": ["length_8_error"]})[1]
    (problem,) = read({"metric": ["accuracy"]})[1]
    assert "val_error or length_24_error" in str(problem)


@pytest.mark.parametrize(
    "told",
    [None, [], "x", {"a": None}, {"a": {"length": "9"}}, {"a": {"length": True}}, {"a": {"length": -1}}],
)
def test_what_is_no_split_is_left_out(results: Results, told: Any) -> None:
    strange = Results(results.folder, ["position"], [], [run("rotary", 1, told)])
    assert probes.table(strange, ["rotary"]) is None
    assert probes.by_length(strange.runs, "accuracy") is None


def test_a_share_that_is_no_number_is_left_out(results: Results) -> None:
    told = {"a": {"length": 4, "trained": True, "accuracy": "high", "token_accuracy": math.nan}}
    assert probes.by_length([run("rotary", 1, told)], "accuracy") is None
    table = probes.table(
        Results(results.folder, [], [], [run("rotary", 1, told)]), ["position=rotary", "rotary"]
    )
    assert table is not None
