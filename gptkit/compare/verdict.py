"""What a comparison comes to, in sentences."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptkit.compare.statistics import Difference, Summary

MOST_SAID = 12  # sentences of a verdict on single pairs


def verdict_of(
    ranking: Sequence[Summary],
    differences: Sequence[Difference],
    unit: str,
    baseline: str | None = None,
    ahead: Collection[str] = (),
) -> list[str]:
    """What it comes to, in sentences: the best first, then what cannot be told apart.

    Args:
        ranking, differences, unit, baseline: as of `Comparison`.
        ahead: the variants that may read what they are to predict; they are not called better for it.
    """
    if not ranking:
        return ["No run has ended well, so there is nothing to compare."]
    if len(ranking) == 1:
        return [f"Only {ranking[0].label} has ended well, so there is nothing to compare it with."]
    if not differences:
        return [f"The baseline {baseline} has no score, so nothing can be held against it."]
    if all(d.n_pairs == 0 for d in differences):
        return [
            "No two variants share a seed that both finished, so none can be compared: take the same seeds."
        ]
    if all(d.n_pairs < 2 for d in differences):
        best = ranking[0]
        same = [one.label for one in ranking if one.scores == best.scores]
        lowest = f"{' and '.join(same)} came out {'equal and ' * (len(same) > 1)}lowest"
        return [
            f"With one seed nothing can be told: {lowest} ({best.mean:.4g} {unit}), and another "
            "seed may turn that round. Take seed=1,2,3 or more."
        ]
    held = [d for d in differences if baseline is not None or ranking[0].label in (d.a, d.b)]
    better = [d for d in held if d.told_apart]
    tied = [d for d in held if not d.told_apart and d.n_pairs > 1]
    sentences = [said(d, unit, ahead) for d in [*better, *tied][:MOST_SAID]]
    unsaid = [d.told_apart for d in [*better, *tied][MOST_SAID:]]
    if unsaid:
        first = baseline or ranking[0].label
        sentences.append(
            f"Of the {len(unsaid)} other variants held against {first}, {sum(unsaid)} can be told apart from it."
        )
    few = [d.b if d.a == (baseline or ranking[0].label) else d.a for d in held if d.n_pairs < 2]
    if few:
        first = baseline or ranking[0].label
        sentences.append(
            f"Nothing can be told of {first} against {', '.join(few)}: fewer than two seeds finished both."
        )
    seen = set(map(id, held))
    rest = [d for d in differences if id(d) not in seen]
    shown = sum(d.told_apart for d in rest)
    if rest:
        pairs = f"Of the {len(rest)} other pairs" if len(rest) > 1 else "Of the one other pair"
        sentences.append(f"{pairs} {shown or 'none'} can be told apart; the table has each.")
    return sentences


def said(d: Difference, unit: str, ahead: Collection[str] = ()) -> str:
    """One difference in a sentence."""
    if d.equal:
        return (
            f"{d.a} and {d.b} came out equal to the last digit with each of {d.n_pairs} paired seeds: what they differ "
            "in changes nothing here."
        )
    half = (d.interval[1] - d.interval[0]) / 2
    size = f"{abs(d.mean):.3g} ± {half:.2g}"
    if d.told_apart:
        better, worse = (d.a, d.b) if d.mean < 0 else (d.b, d.a)
        proof = f"{d.n_pairs} paired seeds, {_p(d.p_holm)} after Holm"
        if better in ahead and worse not in ahead:
            return (
                f"{better} ends lower than {worse} by {size} {unit} ({proof}), but may read what it is to predict: it "
                "is not shown to be better."
            )
        return f"{better} is better than {worse} by {size} {unit} ({proof})."
    more = (
        "more than 1,000 seeds would be needed to show so small a difference"
        if d.more_seeds is None
        else f"about {d.more_seeds} more seed{'s' * (d.more_seeds != 1)} would settle a difference of this size"
    )
    return (
        f"{d.a} and {d.b} cannot be told apart (difference {size} {unit}, {d.n_pairs} paired seeds; {more})."
    )


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"
