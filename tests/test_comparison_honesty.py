"""Each caution is raised by what it is about, and by nothing else; proofs hold where they should."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gptkit.compare import report, screen
from gptkit.compare.honesty import warnings
from gptkit.compare.pairing import proofs
from gptkit.compare.results import Point, Results, Trained
from gptkit.compare.statistics import compare

CONFIG: dict[str, Any] = {
    "tokenizer": {"name": "char"}, "data": {"name": "text"}, "model": {"context_length": 64}, "optimizer": {"lr": 1e-3},
    "trainer": {"precision": "32"},
}  # fmt: skip
PROOF = {
    "batches": "b", "evaluation": "e", "tokenizer": "t", "weights": {"up.weight": "4x4 aa", "position.weight": "8x4 bb"},
}  # fmt: skip
SCORES = {"a": (2.0, 2.2, 2.1), "b": (2.3, 2.52, 2.41)}


def sound() -> Results:
    """Two variants, three seeds, nothing to complain of."""
    runs = []
    for label, scores in SCORES.items():
        for seed, value in enumerate(scores, 1):
            rows = [
                {
                    "step": s,
                    "val_loss": value + 1e-4 * (100 - s),
                    "val_bits_per_byte": value + 1e-4 * (100 - s),
                }
                for s in (25, 50, 75, 100)
            ]
            proof = {**copy.deepcopy(PROOF), "batches": f"b{seed}"}
            runs.append(
                Trained(
                    Point(len(runs), {"position": label}, seed, ()), Path("nowhere"), "finished",
                    {"val_loss": value, "val_bits_per_byte": value, "parameters": 1000, "tokens": 5000, "flops": 1e9},
                    rows, {"proof": proof}, copy.deepcopy(CONFIG),
                )
            )  # fmt: skip
    return Results(Path("."), ["position"], [], runs)


def changed(which: str, **parts: Any) -> Results:
    """The same with something changed in the runs of one variant, or of all."""
    results = sound()
    runs = [
        replace(run, **{k: _merged(getattr(run, k), v) for k, v in parts.items()})
        if which in ("all", run.label)
        else run
        for run in results.runs
    ]
    return replace(results, runs=runs)


def _merged(old: Any, new: Any) -> Any:
    return (
        {**old, **{k: _merged(old.get(k), v) for k, v in new.items()}}
        if isinstance(new, dict) and isinstance(old, dict)
        else new
    )


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


def test_weights_are_compared_past_a_variant_that_lacks_them() -> None:
    plain = sound()
    third = [
        replace(
            run,
            point=replace(run.point, variant={"position": "c"}),
            measures={
                "proof": {
                    **run.measures["proof"],
                    "weights": {**PROOF["weights"], "position.weight": "8x4 zz"},
                }
            },
        )
        for run in plain.runs[3:]
    ]
    lacking = [
        replace(run, measures={"proof": {**run.measures["proof"], "weights": {"up.weight": "4x4 aa"}}})
        for run in plain.runs[3:]
    ]
    found = {p.kind: p for p in proofs(replace(plain, runs=[*plain.runs[:3], *lacking, *third]))}
    assert not found["weights"].held
    assert "position.weight" in found["weights"].text


def test_nothing_is_proved_of_one_variant_or_of_no_shared_seed() -> None:
    plain = sound()
    alone = {p.kind: p.held for p in proofs(replace(plain, runs=plain.runs[:3]))}
    assert not any(alone[kind] for kind in ("batches", "weights", "evaluation", "tokenizer"))
    apart = [run for run in plain.runs if (run.label == "a") == (run.seed < 3)]
    held = {p.kind: p.held for p in proofs(replace(plain, runs=apart))}
    assert not held["batches"]
    assert held["evaluation"]


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


def test_runs_of_different_lengths_are_paired_as_far_as_both_went() -> None:
    def went(steps: dict[str, int], first: dict[str, str]) -> dict[str, Any]:
        runs = []
        for run in sound().runs:
            up_to = {str(1 << i): f"{first[run.label]}{i}" for i in range(steps[run.label].bit_length())}
            proof = {**run.measures["proof"], "batches": f"{steps[run.label]}", "batches_up_to": up_to}
            runs.append(
                replace(run, measures={"proof": proof}, result={**run.result, "steps": steps[run.label]})
            )
        return {p.kind: p for p in proofs(replace(sound(), runs=runs))}

    found = went({"a": 22, "b": 40}, {"a": "x", "b": "x"})["batches"]
    assert found.held
    assert "same first 16 batches, and runs went 22 to 40 steps" in found.text
    assert not went({"a": 22, "b": 40}, {"a": "x", "b": "y"})["batches"].held


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


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("batches", {"batches": "other"}),
        ("evaluation", {"evaluation": "other"}),
        ("tokenizer", {"tokenizer": "other"}),
        ("weights", {"weights": {"up.weight": "4x4 zz"}}),
    ],
)
def test_a_proof_that_does_not_hold_says_so(kind: str, change: dict[str, Any]) -> None:
    found = {proof.kind: proof for proof in proofs(changed("b", measures={"proof": change}))}
    assert not found[kind].held
    assert {k for k, proof in found.items() if not proof.held} == {kind}


def test_weights_of_other_shapes_are_not_held_against_each_other() -> None:
    found = {
        p.kind: p
        for p in proofs(changed("b", measures={"proof": {"weights": {"position.weight": "16x4 cc"}}}))
    }
    assert found["weights"].held
    assert "all 3 pairs" in found["weights"].text


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [("s1", "s1", "held"), ("s1", "s2", "broken"), (None, None, "broken"), ("s1", None, "broken")],
)
def test_one_draw_at_two_scales_is_paired_and_two_draws_are_not(first, second, state) -> None:
    """Runs that were measured before signs were taken have none."""

    def told(value: str, sign: str | None) -> dict[str, Any]:
        return {"weights": {"up.weight": f"4x4 {value}"}, **({"signs": {"up.weight": sign}} if sign else {})}

    held = {"a": told("aa", first), "b": told("zz", second)}
    runs = [replace(run, measures={"proof": held[run.label]}) for run in sound().runs]
    [found] = [one for one in proofs(replace(sound(), runs=runs)) if one.kind == "weights"]
    assert found.state == state
    assert (
        "the same draws, sign for sign; 1 tensor stands at a scale of its own" in found.text
    ) == found.held
    assert found.text.endswith("up.weight.")


def test_what_was_not_measured_is_not_claimed() -> None:
    results = sound()
    bare = replace(results, runs=[replace(run, measures={}) for run in results.runs])
    found = {proof.kind: proof for proof in proofs(bare)}
    assert [kind for kind, proof in found.items() if proof.held] == ["budget"]
    assert "not measured" in found["batches"].text
    unequal = {p.kind: p for p in proofs(changed("b", result={"tokens": 6000}))}
    assert not unequal["budget"].held


def three(third: tuple[float, ...]) -> Results:
    """The sound sweep with a third variant."""
    runs = [
        replace(
            run, point=Point(6 + i, {"position": "c"}, run.seed, ()), result={**run.result, "val_loss": value}
        )
        for i, (run, value) in enumerate(zip(sound().runs[3:], third, strict=True))
    ]
    return replace(sound(), runs=[*sound().runs, *runs])


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


@pytest.mark.parametrize(
    ("kind", "used", "held"),
    [("flops", 1.01e9, True), ("flops", 1.3e9, False), ("seconds", 9.9, True), ("seconds", 5.0, False)],
)
def test_a_budget_of_operations_or_time_is_held_against_what_was_used(kind, used, held) -> None:
    given = {"flops": 1e9, "seconds": 10.0}[kind]
    results = replace(
        changed("all", result={kind: used, "tokens": 5000}), sweep={"budget": {"kind": kind, "value": given}}
    )
    (proof,) = [one for one in proofs(results) if one.kind == "budget"]
    assert proof.held == held, proof.text


def test_runs_that_went_less_far_are_told_beside_the_batches() -> None:
    whole = changed("all", result={"steps": 100})
    runs = [replace(run, result={**run.result, "steps": 80}) if run.seed == 2 else run for run in whole.runs]
    (proof,) = [one for one in proofs(replace(whole, runs=runs)) if one.kind == "batches"]
    assert proof.held
    assert "80 to 100 steps" in proof.text
    assert all("steps" not in one.text for one in proofs(whole) if one.kind == "batches")


def test_what_was_not_measured_is_not_called_broken(tmp_path: Path) -> None:
    bare = replace(sound(), runs=[replace(run, measures={}) for run in sound().runs], folder=tmp_path)
    assert {p.kind: p.state for p in proofs(bare)} == {
        **dict.fromkeys(("batches", "weights", "evaluation", "tokenizer"), "unknown"),
        "budget": "held",
    }
    unasked = replace(bare, sweep={"lengths": []})
    assert {p.kind: p.state for p in proofs(unasked)} == {"measures": "not asked for", "budget": "held"}
    assert next(iter(proofs(changed("b", measures={"proof": {"batches": "other"}})))).state == "broken"

    comparison, told = compare(unasked), proofs(unasked)
    page = report.write(unasked, comparison, [], told)
    assert "measures nothing that would prove them. (not asked for)" in page.read_text("utf-8")
    assert '<p class="broken' not in page.read_text("utf-8")
    assert "- not asked for: Batches, first weights" in (tmp_path / "report.md").read_text("utf-8")
    assert json.loads((tmp_path / "results.json").read_text())["proofs"][0]["state"] == "not asked for"
    console = Console(record=True, width=200)
    screen.show(comparison, [], told, page, console=console)
    assert "not asked for  Batches" in console.export_text()


@pytest.mark.parametrize(("slope", "named"), [(1.4, "b by 0.5; of a by 0.35"), (0.4, "b by 0.5")])
def test_each_variant_that_still_falls_is_named_the_steepest_first(slope: float, named: str) -> None:
    def falling(run: Trained) -> Trained:
        each = {"a": slope, "b": 2.0}[run.label]
        rows = [{"step": s, "val_loss": 9 - each * s / 100} for s in (25, 50, 75, 100)]
        return replace(run, rows=rows)

    results = replace(sound(), runs=[falling(run) for run in sound().runs])
    [text] = [c.text for c in warnings(results, compare(results)) if c.kind == "not_converged"]
    assert f"still fell by more than the smallest difference claimed (0.31 nats): of {named}." in text
