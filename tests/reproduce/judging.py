"""What paired seeds prove about one statement: one-sided t tests, corrected over all statements by Holm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

ALPHA = 0.05
Scores = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Finding:
    """One statement and what speaks for it.

    Attributes:
        text: the statement, with its figures.
        p: how likely figures at least so far in its favour are if it is false; 0 or 1 for a fact that was
            counted and needs no test, NaN where there is nothing to judge by.
        tested: whether `p` comes from a test, and is corrected.
    """

    text: str
    p: float
    tested: bool = True

    @property
    def holds(self) -> bool:
        """Whether it may be said."""
        return self.p < ALPHA


def lower(what: str, a: Scores, b: Scores, names: tuple[str, str], margin: float = 0.0) -> Finding:
    """That `a` is lower than `b` + `margin`, by the paired t test over the seeds that both have."""
    seeds = sorted(a.keys() & b.keys())
    gaps = [a[seed] - b[seed] - margin for seed in seeds]
    first, second = mean([a[seed] for seed in seeds]), mean([b[seed] for seed in seeds])
    beside = f" {'+' if margin > 0 else '−'} {abs(margin):g}" if margin else ""
    return Finding(f"{what}: {names[0]} {first:.3f} < {names[1]} {second:.3f}{beside}", below_zero(gaps))


def alike(what: str, a: Scores, b: Scores, names: tuple[str, str], margin: float) -> Finding:
    """That `a` and `b` differ by less than `margin`: two one-sided tests (Schuirmann 1987)."""
    one, other = lower(what, a, b, names, margin), lower(what, b, a, (names[1], names[0]), margin)
    seeds = sorted(a.keys() & b.keys())
    gap = mean([a[seed] - b[seed] for seed in seeds])
    text = f"{what}: {names[0]} and {names[1]} differ by {gap:+.3f}, less than {margin:g} either way"
    return Finding(text, max(one.p, other.p))


def fact(text: str, holds: bool) -> Finding:
    """What was counted, and needs no test."""
    return Finding(text, 0.0 if holds else 1.0, tested=False)


def below_zero(gaps: Sequence[float]) -> float:
    """One-sided p of a mean below zero; of gaps that are all equal, by their signs."""
    if len(gaps) < 2 or not all(map(math.isfinite, gaps)):
        return math.nan
    if max(gaps) == min(gaps):
        return 0.5 ** len(gaps) if gaps[0] < 0 else 1.0
    from scipy import stats

    tested: Any = stats.ttest_1samp(gaps, 0.0, alternative="less")
    return float(tested.pvalue)


def corrected(findings: Sequence[Finding]) -> list[Finding]:
    """Holm's correction over all that were tested (Holm 1979)."""
    places = sorted(
        (i for i, f in enumerate(findings) if f.tested),
        key=lambda i: (math.isnan(findings[i].p), findings[i].p),
    )
    done, worst = list(findings), 0.0
    for rank, place in enumerate(places):
        p = findings[place].p
        if not math.isnan(p):
            worst = max(worst, min(1.0, p * (len(places) - rank)))
            done[place] = replace(findings[place], p=worst)
    return done


def mean(values: Sequence[float]) -> float:
    """NaN for none."""
    return math.fsum(values) / len(values) if values else math.nan
