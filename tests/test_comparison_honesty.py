"""Each caution is raised by what it is about, and by nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gptkit.compare.honesty import warnings
from gptkit.compare.pairing import proofs
from gptkit.compare.results import Point, Results
from gptkit.compare.statistics import compare
from sound_sweep import changed, sound, three


def kinds(results: Results, metric: str | None = None) -> list[str]:
    return [caution.kind for caution in warnings(results, compare(results, metric))]


def test_a_sound_sweep_raises_nothing() -> None:
    assert kinds(sound()) == []
    assert all(proof.held for proof in proofs(sound())), proofs(sound())


CASES: list[tuple[str, Results]] = [
    ("one_seed", replace(sound(), runs=[r for r in sound().runs if r.seed == 1])),
    ("few_seeds", replace(sound(), runs=[r for r in sound().runs if r.seed < 3])),
    ("missing_runs", replace(sound(), runs=[*sound().runs, *(replace(sound().runs[i], point=Point(9 + i, {"position": k}, 4, ()), status="failed") for i, k in ((0, "a"), (3, "b")))])),
    ("reads_ahead", changed("b", result={"reads_ahead": True})),
    ("unequal_parameters", changed("b", result={"parameters": 1020})),
    ("unequal_tokens", changed("b", result={"tokens": 6000})),
    ("unequal_flops", changed("a", result={"flops": 2e9})),
    ("unequal_ground", changed("b", config={"model": {"context_length": 128}})),
    ("unequal_ground", changed("b", config={"data": {"name": "other"}})),
    ("not_converged", changed("all", rows=[{"step": s, "val_loss": 9 - s / 20} for s in (25, 50, 75, 100)])),
    ("trained_text", changed("b", measures={"proof": {"evaluation_is_training": True}})),
    ("seen_text", changed("b", measures={"proof": {"evaluation_seen": 0.02}})),
    ("tokenizers", changed("b", config={"tokenizer": {"name": "byte"}})),
    ("one_rate", replace(sound(), varied=["optimizer"])),
    ("one_rate", replace(sound(), varied=["model.d_model"])),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "results"), CASES, ids=[f"{i}-{kind}" for i, (kind, _) in enumerate(CASES)])
def test_each_weakness_is_told_and_no_other(kind: str, results: Results) -> None:
    found = set(kinds(results))
    assert kind in found
    assert (
        found - {kind} <= {"few_seeds", "one_seed", "tie_at_the_top"} if "seed" in kind else found == {kind}
    )


def test_a_loss_per_token_of_different_tokenizers_is_warned_of() -> None:
    results = changed("b", config={"tokenizer": {"name": "byte"}})
    assert results.metric == "val_bits_per_byte"
    assert kinds(results, "val_loss") == ["loss_per_token"]


def test_seeds_that_one_variant_lacks_are_told() -> None:
    first = sound().runs[0]
    extra = replace(first, point=replace(first.point, number=9, seed=4))
    assert kinds(replace(sound(), runs=[*sound().runs, extra])) == ["uneven_seeds"]


def test_runs_of_other_versions_or_machines_are_told(tmp_path: Path) -> None:
    def made(torch: str) -> list[str]:
        runs = []
        for run in sound().runs:
            place = tmp_path / torch / str(run.point.number)
            place.mkdir(parents=True)
            version = torch if run.label == "b" else "2.10"
            told = {"gptkit": "1", "packages": {"torch": version}, "hardware": {"processor": "p", "gpus": []}}
            (place / "env.json").write_text(json.dumps(told))
            runs.append(replace(run, path=place))
        return kinds(replace(sound(), runs=runs))

    assert made("2.10") == []
    assert made("2.11") == ["machines"]


def test_only_the_last_quarter_counts_for_convergence() -> None:
    early = [{"step": s, "val_loss": v} for s, v in ((25, 9.0), (50, 5.0), (75, 2.0), (100, 2.0))]
    assert kinds(changed("all", rows=early)) == []


def test_convergence_is_in_the_unit_of_the_claim() -> None:
    rows = [{"step": s, "val_loss": 9 - s / 20, "val_bits_per_byte": 1.2} for s in (25, 50, 75, 100)]
    results = changed("all", rows=rows)
    assert "not_converged" in kinds(results)
    assert "not_converged" not in kinds(results, "val_bits_per_byte")


def test_a_text_for_each_seed_keeps_variants_paired() -> None:
    """Seeds may differ in what is held out, as long as each holds out the same for all variants."""

    def folded(fold_of: dict[str, int]) -> Results:
        runs = []
        for run in sound().runs:
            fold = run.seed + fold_of[run.label]
            proof = {**run.measures["proof"], "evaluation": f"e{fold}"}
            config = {**run.config, "data": {"name": "text", "val_fold": fold}}
            runs.append(replace(run, measures={"proof": proof}, config=config))
        return replace(sound(), runs=runs)

    fair = folded({"a": 0, "b": 0})
    assert kinds(fair) == []
    found = {p.kind: p for p in proofs(fair)}
    assert found["evaluation"].held
    assert "of 3 texts in all" in found["evaluation"].text
    unfair = folded({"a": 0, "b": 1})
    assert "unequal_ground" in kinds(unfair)
    found = {p.kind: p for p in proofs(unfair)}
    assert not found["evaluation"].held
    apart = [run for run in fair.runs if (run.label == "a") == (run.seed < 3)]
    found = {p.kind: p for p in proofs(replace(fair, runs=apart))}
    assert not found["evaluation"].held
    assert "unequal_ground" in kinds(replace(fair, runs=apart))


def test_ties_are_told_to_be_early_and_what_was_not_watched_to_be_unknown() -> None:
    flat = {"a": (2.0, 2.2, 2.1), "b": (2.01, 2.19, 2.1)}

    def tied(rows: Any) -> Results:
        runs = [
            replace(run, result={**run.result, "val_loss": flat[run.label][run.seed - 1]}, rows=rows)
            for run in sound().runs
        ]
        return replace(sound(), runs=runs)

    falling = tied([{"step": s, "val_loss": 9 - s / 20} for s in (25, 50, 75, 100)])
    [told] = [c.text for c in warnings(falling, compare(falling)) if c.kind == "not_converged"]
    assert "Longer training may tell them apart." in told
    assert "convergence_unknown" in kinds(tied([{"step": 20, "val_loss": 2.0}]))
    assert "convergence_unknown" not in kinds(sound())


def test_a_proof_that_is_not_there_is_borne() -> None:
    assert kinds(changed("b", measures={"proof": None})) == []


def test_parameters_a_little_apart_are_no_matter() -> None:
    assert kinds(changed("b", result={"parameters": 1009})) == []


def test_a_score_that_is_no_number_and_a_tie_are_told() -> None:
    results = sound()
    first = results.runs[0]
    broken = replace(first, result={**first.result, "val_loss": float("nan")})
    assert "not_finite" in kinds(replace(results, runs=[broken, *results.runs[1:]]))
    flat = [
        replace(run, result={**run.result, "val_loss": 2 + 0.1 * (i % 3) + 0.01 * ((i * 7) % 5)})
        for i, run in enumerate(results.runs)
    ]
    assert "tie_at_the_top" in kinds(replace(results, runs=flat))


def test_a_tie_further_down_is_told_and_a_clear_order_is_not() -> None:
    tied = three((2.31, 2.51, 2.42))
    (caution,) = [one for one in warnings(tied, compare(tied)) if one.kind == "ties"]
    assert "b and c" in caution.text
    assert "ties" not in kinds(three((2.9, 3.13, 3.0)))


def test_where_validations_are_few_the_training_loss_tells_whether_it_still_falls() -> None:
    def learning(slope: float) -> Results:
        rows = [{"step": s, "loss": 3 - slope * s / 100} for s in range(5, 101, 5)]
        return changed("all", rows=[*rows[:-1], {**rows[-1], "val_loss": 2.0}])

    assert "not_converged" in kinds(learning(2.0))
    assert "not_converged" not in kinds(learning(0.01))


def falling(results: Results, slopes: dict[str, float]) -> Results:
    """The same with losses that fall by a quarter of each slope in the last quarter of training."""

    def rows(each: float) -> list[dict[str, float]]:
        return [{"step": s, "val_loss": 9 - each * s / 100} for s in (25, 50, 75, 100)]

    return replace(results, runs=[replace(run, rows=rows(slopes[run.label])) for run in results.runs])


def said_of_convergence(results: Results, metric: str | None = None) -> str:
    found = warnings(results, compare(results, metric))
    return " ".join(one.text for one in found if one.kind == "not_converged")


@pytest.mark.parametrize(
    ("slope", "named"),
    [(1.4, "of b by 0.5, against 0.31; of a by 0.35, against 0.31."), (0.4, "of b by 0.5, against 0.31.")],
)
def test_each_variant_that_still_falls_is_named_the_steepest_first(slope: float, named: str) -> None:
    text = said_of_convergence(falling(sound(), {"a": slope, "b": 2.0}))
    assert f"the smallest difference claimed of the same variant (nats): {named}" in text


def test_a_fall_is_held_against_differences_that_its_variant_has_a_part_in() -> None:
    """b and c are 0.05 apart, a is 0.31 from the nearest of them."""
    results = three((2.35, 2.5701, 2.46))
    text = said_of_convergence(falling(results, dict.fromkeys("abc", 0.8)))
    assert "(nats): of b by 0.2, against 0.05; of c by 0.2, against 0.05. Longer" in text
    assert "of a by" in said_of_convergence(falling(results, {"a": 1.4, "b": 0.0, "c": 0.0}))


def test_a_fall_of_the_loss_is_not_held_against_a_share_of_answers() -> None:
    results = falling(sound(), dict.fromkeys("ab", 2.0))
    runs = [
        replace(run, result={**run.result, "splits": {"val": {"accuracy": 1 - run.result["val_loss"] / 10}}})
        for run in results.runs
    ]
    results = replace(results, runs=runs)
    assert said_of_convergence(results)
    assert compare(results, "val_error").differences[0].told_apart
    assert not said_of_convergence(results, "val_error")


@pytest.mark.parametrize(
    ("of_b", "text"),
    [([1], "b seed 3 on 1; the others on 2. Their times"), ([1, 2], "b seed 3 on 1, then 2. Their times")],
)
def test_other_jobs_are_said_to_have_had_threads_only_where_some_had(of_b: list[int], text: str) -> None:
    """Where a job noted nothing, as none did once, nothing is said of it."""
    *before, last = sound().runs
    rest = [2] if len(of_b) == 1 else []
    runs = [*(replace(run, threads=rest) for run in before), replace(last, threads=of_b)]
    results = replace(sound(), runs=runs)
    [told] = [one.text for one in warnings(results, compare(results)) if one.kind == "threads"]
    assert text in told
