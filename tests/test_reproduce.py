"""What is known is judged by paired seeds: planted orderings are found, false ones are not, and all of it runs."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gptkit.compare.plan import plan
from gptkit.compare.results import Point, Results, Trained
from reproduce.claims import CLAIMS, wrong
from reproduce.judging import Finding, alike, below_zero, corrected, fact, lower
from reproduce.page import _part
from reproduce.sweeps import SWEEPS

NAMES = ("a", "b")


def planted(effect: float, seed: int = 0, n: int = 5) -> tuple[dict[int, float], dict[int, float]]:
    """Two variants whose seeds share their luck, the first lower by `effect`."""
    rng = np.random.default_rng(seed)
    luck, noise = rng.normal(2, 0.3, n), rng.normal(0, 0.01, (2, n))
    return (
        {s: luck[s] - effect + noise[0, s] for s in range(n)},
        {s: luck[s] + noise[1, s] for s in range(n)},
    )


def test_a_planted_ordering_is_found_and_its_opposite_is_not() -> None:
    a, b = planted(0.1)
    assert lower("loss", a, b, NAMES).holds
    assert not lower("loss", b, a, NAMES).holds
    assert lower("loss", b, a, NAMES, margin=0.2).holds
    assert not lower("loss", a, b, NAMES, margin=-0.2).holds


def test_nothing_is_found_where_nothing_is() -> None:
    claimed = sum(lower("loss", *planted(0.0, seed), NAMES).holds for seed in range(400))
    assert claimed <= 30  # 5 % of 400, and the room of chance


def test_alike_needs_proof() -> None:
    a, b = planted(0.0)
    assert alike("loss", a, b, NAMES, margin=0.05).holds
    assert not alike("loss", a, b, NAMES, margin=0.001).holds
    far, near = planted(0.2)
    assert not alike("loss", far, near, NAMES, margin=0.05).holds


def test_equal_gaps_are_judged_by_their_signs() -> None:
    assert below_zero([-0.1] * 5) == 0.5**5
    assert below_zero([0.0] * 5) == below_zero([0.1] * 5) == 1.0
    assert math.isnan(below_zero([-0.1]))
    assert math.isnan(below_zero([-0.1, math.inf]))


def test_holm_over_all_that_was_tested() -> None:
    told = [
        Finding("a", 0.01),
        fact("counted", True),
        Finding("b", 0.04),
        Finding("c", math.nan),
        Finding("d", 0.03),
    ]
    done = corrected(told)
    assert [f.p for f in done[:3]] == [0.04, 0.0, pytest.approx(0.09)]
    assert math.isnan(done[3].p)
    assert done[4].p == pytest.approx(0.09)
    assert [f.holds for f in done] == [True, True, False, False, False]


def test_every_claim_is_judged_by_sweeps_that_exist() -> None:
    assert list(CLAIMS) == list(range(1, 9))
    for claim in CLAIMS.values():
        assert set(claim.sweeps) <= set(SWEEPS)
        assert all(plot.partition("/")[0] in claim.sweeps for plot in claim.plots)


@pytest.mark.parametrize(
    ("rises", "held"),
    [
        ({"alibi": 0.0, "rotary": 0.3, "sinusoidal": 0.3}, True),
        ({"alibi": 0.2, "rotary": 0.3, "sinusoidal": 0.3}, False),
        ({"alibi": 0.0, "rotary": 0.01, "sinusoidal": 0.3}, False),
    ],
)
def test_short_to_long_is_judged_by_what_each_loses(
    tmp_path: Path, rises: dict[str, float], held: bool
) -> None:
    runs = [
        trained(
            label,
            seed,
            measures={"lengths": [{"factor": f, **read(label, seed, rise * (f > 1))} for f in (1, 2, 4, 8)]},
        )
        for label, rise in {**rises, "learned": math.nan}.items()
        for seed in range(5)
    ]
    base = Results(tmp_path, ["position"], [], runs)
    assert all(f.holds for f in CLAIMS[3].judge({"base": base})) is held


def read(label: str, seed: int, rise: float) -> dict[str, float | str]:
    if math.isnan(rise) and label == "learned":
        return {"refused": "learned positions end"}
    luck = np.random.default_rng([seed, len(label)]).normal(0, 0.005)
    return {"non_overlapping": 2.0 + rise + (luck if rise else 0.0)}


def test_the_best_of_several_probes_pays_for_the_choice(tmp_path: Path) -> None:
    def sweep(gain: float, probe: int) -> Results:
        rng = np.random.default_rng(probe)
        told = {"none": 0.5 + gain, "rotary": 0.5, "alibi": 0.5}
        runs = [
            trained(
                label, seed, splits={"long": {"trained": False, "length": 20, "token_accuracy": a + luck}}
            )
            for label, a in told.items()
            for seed, luck in enumerate(rng.normal(0, 0.02, 5))
        ]
        return Results(tmp_path, ["position"], [], runs)

    probes = CLAIMS[5].sweeps
    better = {name: sweep(0.2 if name == "reverse" else 0.0, i) for i, name in enumerate(probes)}
    assert all(f.holds and "reverse" in f.text for f in CLAIMS[5].judge(better))
    judged = CLAIMS[5].judge({name: sweep(0.0, i) for i, name in enumerate(probes)})
    raw = [
        lower(
            "",
            {r.seed: wrong("long")(r) for r in runs["none"]},
            {r.seed: wrong("long")(r) for r in runs[b]},
            NAMES,
        ).p
        for b in ("rotary", "alibi")
        for runs in [{label: list(better["reverse"].finished(label).values()) for label in ("none", b)}]
    ]
    assert [f.p for f in CLAIMS[5].judge(better)] == pytest.approx([3 * p for p in raw])
    assert not any(f.holds for f in judged)


def trained(label: str, seed: int, *, measures: dict | None = None, splits: dict | None = None) -> Trained:
    point = Point(0, {"position": label}, seed, [])
    return Trained(point, Path(label), "finished", {"splits": splits or {}}, measures=measures or {})


@pytest.mark.slow
def test_every_claim_runs_at_the_smallest_size(tmp_path: Path) -> None:
    run(tmp_path, list(map(str, CLAIMS)))
    page = (tmp_path / "page.md").read_text("utf-8")
    assert re.findall(r"^## (\d)\.", page, re.M) == list(map(str, CLAIMS))


def test_what_does_not_hold_is_accounted_for_and_only_that(tmp_path: Path) -> None:
    def page(held: bool) -> str:
        return _part(8, [fact("two layers can", held)], held, [1], [])

    account = f"Why it may not: {CLAIMS[8].why_not}"
    assert account in page(False)
    assert "Why it may not" not in page(True)
    committed = (Path(__file__).parents[1] / "docs" / "reproduce.md").read_text("utf-8")
    parts = re.split(r"^## (?=\d\.)", committed, flags=re.M)[1:]
    for claim, part in zip(CLAIMS.values(), parts, strict=True):
        failed = "**It does not hold here.**" in part
        assert (f"Why it may not: {claim.why_not}" in part) is failed
        assert bool(claim.why_not) or not failed


def test_claims_ask_only_for_variants_that_their_sweeps_have() -> None:
    """One of another name would have no scores, and a claim on it would never hold."""
    asked: set[tuple[str, str]] = set()

    class Asked(Results):
        def finished(self, label: str) -> dict[int, Trained]:
            asked.add((str(self.folder), label))
            return {}

    for claim in CLAIMS.values():
        claim.judge({name: Asked(Path(name), [], [], []) for name in claim.sweeps})
    made = {name: plan([*sweep.words.split(), "seed=1"]).labels for name, sweep in SWEEPS.items()}
    assert {name for name, _ in asked} == made.keys()
    assert [(name, label) for name, label in sorted(asked) if label not in made[name]] == []


def test_some_claims_run_at_the_smallest_size_and_go_on(tmp_path: Path) -> None:
    run(tmp_path, ["7"])
    page = (tmp_path / "page.md").read_text("utf-8")
    assert "## 7. A model of no layers" in page
    assert "It does not hold here." in page  # of four steps
    assert "no run lies below the entropy" in page
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("result.json")}
    assert len(before) == 4
    run(tmp_path, ["7"])
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("result.json")}


def run(folder: Path, claims: list[str]) -> None:
    told = ["--seeds", "1,2", "--folder", str(folder / "runs"), "--out", str(folder / "page.md"), "--smoke"]
    command = [sys.executable, "-m", "reproduce", *claims, *told]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
