"""What proves equal ground holds where it should; what was not measured is not called broken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gptkit.compare import report, screen
from gptkit.compare.pairing import proofs
from gptkit.compare.statistics import compare
from sound_sweep import PROOF, changed, sound


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
