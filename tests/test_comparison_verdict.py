"""What a verdict and a title may say: equal variants are equal, one of a thing is one, and who reads the answers has not won."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gptkit.cli import main
from gptkit.compare.honesty import warnings
from gptkit.compare.results import Results
from gptkit.compare.statistics import Comparison, compare
from gptkit.compare.tables import differences
from gptkit.compare.words import title
from gptkit.numbers import counted
from test_comparison_statistics import sweep

SAME = {1: 2.0, 2: 2.2, 3: 2.1}


def told(results: Results) -> dict[str, str]:
    return {caution.kind: caution.text for caution in warnings(results, compare(results))}


def settled(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """Of each pair of the table, whether it is told apart and how many more seeds would settle it."""
    return {row[0].text: (row[-2].text, row[-1].text) for row in differences(comparison).rows}


def test_equal_variants_are_called_equal_and_no_seeds_are_asked_for() -> None:
    results = sweep({"a": SAME, "b": dict(SAME), "c": {seed: 2.5 + 0.01 * seed for seed in SAME}})
    found = compare(results)
    [said] = [sentence for sentence in found.verdict if "a and b" in sentence]
    assert said.startswith("a and b came out equal to the last digit with each of 3 paired seeds")
    assert "1,000" not in " ".join(found.verdict)
    assert settled(found)["a − b"] == ("equal", "–")
    cautions = told(results)
    tie = "a; b share the first place: their scores are equal with every seed that they share."
    assert cautions["tie_at_the_top"] == tie
    assert "mean alone" not in " ".join(cautions.values())


def test_a_first_place_is_shared_with_a_variant_that_lacks_a_seed() -> None:
    results = sweep({"a": SAME, "b": {seed: SAME[seed] for seed in (1, 2)}})
    assert told(results)["tie_at_the_top"].startswith("a; b share the first place")


def test_equal_variants_further_down_are_no_matter_of_chance() -> None:
    worse = {seed: 2.5 + 0.01 * seed for seed in SAME}
    results = sweep({"a": SAME, "b": worse, "c": dict(worse)})
    assert settled(compare(results))["b − c"] == ("equal", "–")
    assert "ties" not in told(results)


def test_losses_that_still_fall_are_not_held_against_a_difference_of_nothing() -> None:
    rows = [{"step": step, "val_loss": 9 - step / 20} for step in (25, 50, 75, 100)]
    same = sweep({"a": SAME, "b": dict(SAME)})
    runs = [type(run)(**{**vars(run), "rows": rows}) for run in same.runs]
    assert "not_converged" not in told(Results(same.folder, same.varied, [], runs))


def test_a_near_tie_is_no_equality() -> None:
    near = compare(sweep({"a": SAME, "b": {seed: loss + 1e-9 * seed for seed, loss in SAME.items()}}))
    assert "equal" not in near.verdict[0]


def test_equal_variants_of_one_seed_came_out_lowest_together() -> None:
    found = compare(sweep({"a": {1: 2.0}, "b": {1: 2.0}, "c": {1: 2.1}}))
    assert "a and b came out equal and lowest (2 nats)" in found.verdict[0]


def test_a_title_names_variants_of_one_key_and_counts_those_of_several() -> None:
    results = sweep({"rotary": SAME, "none": SAME})
    assert title(results).endswith(": rotary, none")
    assert (
        title(replace(results, varied=["position", "model.n_layers"]))
        == "position × model.n_layers: 2 variants"
    )


@pytest.mark.parametrize(("number", "text"), [(0, "0 seeds"), (1, "1 seed"), (2000, "2,000 seeds")])
def test_one_is_singular(number: int, text: str) -> None:
    assert counted(number, "seed") == text


def test_a_list_of_one_seed_says_one_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["position=rotary,none", "seed=1", "debug=smoke", "tokenizer=byte", "model.n_layers=1"]
    assert main(["compare", *words, "--dry-run"]) == 0
    assert "2 jobs: 2 variants with 1 seed each. Nothing was run." in capsys.readouterr().out


@pytest.mark.parametrize(("seeing", "called_better"), [("a", False), ("b", True), ("ab", True), ("", True)])
def test_who_reads_the_answers_is_not_called_better_for_it(seeing: str, called_better: bool) -> None:
    results = sweep({"a": SAME, "b": {seed: 2.5 + 0.01 * seed for seed in SAME}})
    runs = [replace(run, result={**run.result, "reads_ahead": run.label in seeing}) for run in results.runs]
    said = " ".join(compare(replace(results, runs=runs)).verdict)
    assert ("a is better than b by" in said) is called_better
    assert ("a ends lower than b by" in said and "not shown to be better" in said) is not called_better
