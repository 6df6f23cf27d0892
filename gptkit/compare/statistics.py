"""What the scores of variants and seeds prove: differences, intervals, and a verdict in words.

Lower is better. Variants are paired by seed: the runs of one seed share their batches and, where names
and shapes agree, their first weights, so the difference within a seed is free of what the seed brings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeGuard

from gptkit.compare.results import Results, score
from gptkit.compare.verdict import verdict_of
from gptkit.errors import UserError

ALPHA, POWER, MOST_SEEDS = 0.05, 0.8, 1000
UNITS = {
    "val_loss": "nats",
    "val_bits_per_byte": "bits per byte",
    "best_val_loss": "nats",
    "train_loss": "nats",
}
_RESAMPLES = 2000
MOST_RESAMPLED = 400  # pairs of which each has its bootstrap interval


@dataclass(frozen=True)
class Summary:
    """One variant by itself.

    Attributes:
        label: which.
        scores: by seed; those that are finite.
        mean: of the scores; NaN where there are none.
        sd: standard deviation of the scores (n - 1); NaN below two.
        interval: 95 % t interval of the mean; NaN below two.
        letters: variants that share a letter cannot be told apart.
    """

    label: str
    scores: Mapping[int, float]
    mean: float
    sd: float
    interval: tuple[float, float]
    letters: str = ""

    @property
    def n(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Difference:
    """Two variants, seed by seed: a - b, so below zero a is better.

    Attributes:
        a, b: their labels.
        n_pairs: seeds that both finished.
        mean: of the differences.
        interval: 95 % t interval; NaN below two pairs.
        bootstrap: 95 % interval by resampling pairs (BCa, Efron 1987); NaN below three pairs, and of many
            variants for pairs that the best, or the baseline, is not of.
        p: of the paired t test, two-sided; of the sign test (Arbuthnot 1710), 2^(1 - n), where all n
            differences are the same; NaN for one pair.
        p_holm: the same, corrected for all comparisons made (Holm 1979).
        sd_paired: standard deviation of the differences.
        sd_unpaired: of a difference of runs of different seeds, sqrt(sd_a^2 + sd_b^2).
        effect: mean / sd_paired (Cohen's d_z): how many of the spreads that seeds bring.
        more_seeds: how many more would show a difference of this size with power 0.8 after correction;
            0 where it is shown, None where it cannot be told, more than 1,000 are needed, or both are equal.
    """

    a: str
    b: str
    n_pairs: int
    mean: float
    interval: tuple[float, float]
    bootstrap: tuple[float, float]
    p: float
    p_holm: float
    sd_paired: float
    sd_unpaired: float
    effect: float
    more_seeds: int | None

    @property
    def told_apart(self) -> bool:
        """Whether the corrected test tells them apart."""
        return self.p_holm < ALPHA

    @property
    def equal(self) -> bool:
        """Whether both came out the same, to the last digit, with every seed."""
        return self.n_pairs > 0 and self.mean == 0 and not self.sd_paired > 0

    @property
    def pairing_pays(self) -> float:
        """Variance of an unpaired difference over that of a paired one."""
        return (self.sd_unpaired / self.sd_paired) ** 2 if self.sd_paired > 0 else math.nan


@dataclass(frozen=True)
class Comparison:
    """All that the scores prove.

    Attributes:
        metric, unit: what was compared.
        ranking: variants, best mean first, over the seeds that all have if there are any.
        differences: each pair, the better one first; with a baseline, each variant against it.
        verdict: sentences, the most important first.
        baseline: the variant that all others are held against, if one was named.
    """

    metric: str
    unit: str
    ranking: Sequence[Summary]
    differences: Sequence[Difference]
    verdict: Sequence[str]
    baseline: str | None = None
    left_out: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def between(self, a: str, b: str) -> Difference | None:
        """The difference of two variants, whichever stands first."""
        return next((d for d in self.differences if {d.a, d.b} == {a, b}), None)


def compare(results: Results, metric: str | None = None, baseline: str | None = None) -> Comparison:
    """What a sweep's scores prove.

    Args:
        results: the sweep.
        metric: a number of `result.json`, or an error as of `results.score`; the sweep's own if left out.
        baseline: compare each variant with this one alone.

    Raises:
        UserError: no run has the metric, or there is no such variant.
    """
    name = metric or results.metric
    ended = [run for label in results.labels for run in results.finished(label).values()]
    if ended and not any(_is_number(score(run.result, name)) for run in ended):
        known = sorted({key for run in ended for key, value in run.result.items() if _is_number(value)})
        raise UserError(f"No run tells {name!r}. They tell: {', '.join(known) or 'nothing yet'}.")
    given: dict[str, dict[int, float]] = {label: {} for label in results.labels}
    for run in ended:
        value = score(run.result, name)
        given[run.label][run.seed] = float(value) if _is_number(value) else math.nan
    if baseline is not None and baseline not in given:
        raise UserError(f"There is no variant {baseline!r}. There are: {', '.join(given)}.")
    scores = {k: {s: v for s, v in held.items() if math.isfinite(v)} for k, held in given.items()}
    left_out = {
        k: [s for s in held if s not in scores[k]] for k, held in given.items() if len(held) > len(scores[k])
    }
    shared = (
        set.intersection(*(set(held) for held in scores.values() if held)) if any(scores.values()) else set()
    )

    def standing(one: Summary) -> float:
        """The mean over the seeds that all have: means over other seeds say nothing of one another."""
        held = [value for seed, value in one.scores.items() if seed in shared]
        return math.fsum(held) / len(held) if held else one.mean

    ranking = sorted((summary(label, held) for label, held in scores.items() if held), key=standing)
    order = [one.label for one in ranking]
    if baseline is not None:
        pairs = [
            tuple(sorted((baseline, other), key=order.index))
            for other in order
            if other != baseline and baseline in order
        ]
    else:
        pairs = list(itertools.combinations(order, 2))
    best = baseline or (order[0] if order else "")
    raw = [
        paired(a, b, scores[a], scores[b], resample=len(pairs) <= MOST_RESAMPLED or best in (a, b))
        for a, b in pairs
    ]
    corrected = holm([d.p for d in raw])
    differences = [_settled(d, p, len(raw)) for d, p in zip(raw, corrected, strict=True)]
    ranking = _lettered(ranking, differences) if baseline is None else ranking
    unit = "share of wrong tokens" if name.endswith("_token_error") else UNITS.get(name, name)
    unit = "share of wrong answers" if unit.endswith("_error") else unit
    ahead = {run.label for run in ended if run.result.get("reads_ahead")}
    verdict = verdict_of(ranking, differences, unit, baseline, ahead)
    return Comparison(name, unit, ranking, differences, verdict, baseline, left_out)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def summary(label: str, scores: Mapping[int, float]) -> Summary:
    """One variant's mean, spread and interval."""
    values = [scores[seed] for seed in sorted(scores)]
    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return Summary(label, dict(scores), mean, math.nan, (math.nan, math.nan))
    sd = _sd(values)
    half = _quantile(1 - ALPHA / 2, n - 1) * sd / math.sqrt(n)
    return Summary(label, dict(scores), mean, sd, (mean - half, mean + half))


@lru_cache(maxsize=4096)
def _quantile(share: float, free: int) -> float:
    """Of Student's t distribution with so many degrees of freedom."""
    from scipy import special

    return float(special.stdtrit(free, share))


def _sd(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def paired(
    a: str, b: str, scores_a: Mapping[int, float], scores_b: Mapping[int, float], *, resample: bool = True
) -> Difference:
    """Two variants compared over the seeds that both have; not yet corrected for other comparisons.

    Args:
        a, b: their labels.
        scores_a, scores_b: by seed.
        resample: give the bootstrap interval as well, which takes milliseconds.
    """
    from scipy import special

    seeds = sorted(scores_a.keys() & scores_b.keys())
    gaps = [scores_a[seed] - scores_b[seed] for seed in seeds]
    n, nan = len(gaps), (math.nan, math.nan)
    if not n:
        return Difference(a, b, 0, math.nan, nan, nan, math.nan, math.nan, math.nan, math.nan, math.nan, None)
    mean = math.fsum(gaps) / n
    if n == 1:
        return Difference(a, b, 1, mean, nan, nan, math.nan, math.nan, math.nan, math.nan, math.nan, None)
    sd = _sd(gaps)
    both = [[scores[seed] for seed in seeds] for scores in (scores_a, scores_b)]
    apart = math.hypot(_sd(both[0]), _sd(both[1]))
    if sd <= 1e-15 * max(1.0, abs(mean)):  # every seed gives the same difference: only its sign is evidence
        p, effect = (2.0 ** (1 - n), math.copysign(math.inf, mean)) if mean else (1.0, 0.0)
        exact = (mean, mean)
        return Difference(a, b, n, mean, exact, exact, p, p, 0.0, apart, effect, None)
    t = mean / (sd / math.sqrt(n))
    p = float(2 * special.stdtr(n - 1, -abs(t)))
    half = _quantile(1 - ALPHA / 2, n - 1) * sd / math.sqrt(n)
    interval = (mean - half, mean + half)
    resampled = _bootstrap(gaps) if resample else nan
    return Difference(a, b, n, mean, interval, resampled, p, p, sd, apart, mean / sd, None)


def _bootstrap(gaps: Sequence[float]) -> tuple[float, float]:
    """95 % BCa interval of the mean, by resampling with a fixed seed."""
    if len(gaps) < 3:
        return math.nan, math.nan
    import warnings

    import numpy as np
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samples that are too alike for BCa: the answer is then NaN
        found = stats.bootstrap(
            (np.asarray(gaps),), np.mean, n_resamples=_RESAMPLES, method="BCa", rng=np.random.default_rng(1)
        ).confidence_interval
    return float(found.low), float(found.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for being several (Holm 1979); NaN stays NaN and counts for nothing."""
    known = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = list(p_values), 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[index] = largest
    return corrected


def _settled(d: Difference, p_holm: float, comparisons: int) -> Difference:
    """The difference with its corrected p, and how many more seeds would show it."""
    from dataclasses import replace

    if math.isnan(p_holm) or d.n_pairs < 2 or d.effect == 0:
        return replace(d, p_holm=p_holm)
    if math.isinf(d.effect):
        by_signs = math.floor(1 - math.log2(ALPHA / comparisons)) + 1
        return replace(d, p_holm=p_holm, more_seeds=0 if p_holm < ALPHA else max(0, by_signs - d.n_pairs))
    needed = 0 if p_holm < ALPHA else seeds_for(d.effect, ALPHA / comparisons)
    return replace(d, p_holm=p_holm, more_seeds=None if needed is None else max(0, needed - d.n_pairs))


def seeds_for(effect: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """How many pairs a paired t test needs to show an effect d_z with this power; None above 1,000."""
    if effect == 0 or power_of(effect, MOST_SEEDS, alpha) < power:
        return None
    low, high = 2, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        if power_of(effect, middle, alpha) >= power:
            high = middle
        else:
            low = middle + 1
    return low


def power_of(effect: float, n: int, alpha: float = ALPHA) -> float:
    """The power of a two-sided paired t test of n pairs to show an effect d_z (noncentral t)."""
    from scipy import special

    bound, shift = _quantile(1 - alpha / 2, n - 1), abs(effect) * math.sqrt(n)
    near, far = (float(special.nctdtr(n - 1, shift, x)) for x in (bound, -bound))
    return 1 - near + (far if math.isfinite(far) else 0.0)


def _lettered(ranking: Sequence[Summary], differences: Sequence[Difference]) -> list[Summary]:
    """Give each run of variants that cannot be told apart a letter (Piepho 2004, by insertion)."""
    from dataclasses import replace

    apart = {frozenset((d.a, d.b)) for d in differences if d.told_apart}
    labels = [one.label for one in ranking]
    groups: list[set[str]] = [set(labels)]
    for pair in sorted(apart, key=lambda p: sorted(map(labels.index, p))):
        one, other = pair
        for group in [g for g in groups if one in g and other in g]:
            groups.remove(group)
            for half in (group - {one}, group - {other}):
                if not any(half <= kept for kept in groups):
                    groups.append(half)
    groups = [g for g in groups if not any(g < other for other in groups)]
    groups.sort(key=lambda g: sorted(map(labels.index, g)))
    letters = {
        label: "".join(chr(97 + i) for i, g in enumerate(groups[:26]) if label in g) for label in labels
    }
    return [replace(one, letters=letters[one.label]) for one in ranking]
