"""Where a claim would be weak."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gptkit.compare.results import Results, Trained
from gptkit.compare.series import number, part, threads
from gptkit.compare.statistics import UNITS, Comparison
from gptkit.compare.tables import scaled

SEEN = 64  # tokens of a piece, as measured
_SLACK = 0.01  # of parameters, tokens and operations, before they count as unequal
_EQUAL_GROUND = {
    "data": "the data",
    "model.context_length": "the context length",
    "trainer.precision": "the precision",
    "objective": "the objective",
}


@dataclass(frozen=True)
class Caution:
    """Something that a reader must know before believing the verdict.

    Attributes:
        kind: a short name, such as `one_seed`.
        text: what, with figures.
    """

    kind: str
    text: str


def warnings(results: Results, comparison: Comparison) -> list[Caution]:
    """Every weakness that the sweep shows, the gravest first."""
    return [
        caution
        for check in (
            _seeds,
            _missing,
            _ahead,
            _numbers,
            _tokenizers,
            _ground,
            _machines,
            _threads,
            _converged,
            _overlap,
            _ties,
            _rates,
            _trained_text,
        )
        for caution in check(results, comparison)
    ]


def _seeds(results: Results, comparison: Comparison) -> Iterator[Caution]:
    counts = {label: len(runs) for label, runs in results.ended()}
    fewest = min(counts.values(), default=0)
    if fewest == 1:
        yield Caution("one_seed", "One seed tells nothing of chance: take seed=1,2,3 or more.")
    elif 1 < fewest < 3:
        yield Caution(
            "few_seeds", "Two seeds give wide intervals: three or more are needed to show anything small."
        )


def _missing(results: Results, comparison: Comparison) -> Iterator[Caution]:
    gone = [run for run in results.runs if run.status != "finished"]
    if gone:
        told = "; ".join(f"{run.label} seed {run.seed} ({run.status})" for run in gone[:6])
        yield Caution(
            "missing_runs",
            f"Left out: {told}{_more(gone, 6)}. What failed is not a matter of chance. Where seeds are missing, the "
            "ranking goes by those that all variants have, and a mean may be of others.",
        )
    for label, seeds in comparison.left_out.items():
        told = ", ".join(map(str, seeds))
        yield Caution(
            "not_finite", f"{label}: the {comparison.metric} of seed {told} is not a finite number."
        )
    asked = {label: {run.seed for run in results.runs if run.label == label} for label in results.labels}
    uneven = [label for label, seeds in asked.items() if seeds != set(results.seeds)]
    if uneven:
        yield Caution(
            "uneven_seeds",
            f"Not every variant has every seed ({'; '.join(uneven[:6])}{_more(uneven, 6)} lack some): pairs hold only "
            "those of both.",
        )


def _more(many: Sequence[object], shown: int) -> str:
    return f" and {len(many) - shown} more" if len(many) > shown else ""


def _ahead(results: Results, comparison: Comparison) -> Iterator[Caution]:
    ahead = [label for label, runs in results.ended() if any(run.result.get("reads_ahead") for run in runs)]
    if ahead:
        yield Caution(
            "reads_ahead",
            f"Reads ahead: the masks of {'; '.join(ahead[:6])}{_more(ahead, 6)} let tokens read those that they are "
            "to predict. A loss of theirs is no measure of prediction, and none to set beside a causal variant's.",
        )


def _numbers(results: Results, comparison: Comparison) -> Iterator[Caution]:
    for key, words in (
        ("parameters", "parameters"),
        ("tokens", "tokens trained on"),
        ("flops", "operations in training"),
    ):
        means = {
            label: sum(values) / len(values)
            for label, runs in results.ended()
            if (values := [float(run.result[key]) for run in runs if run.result.get(key)])
        }
        if not means:
            continue
        low, high = min(means, key=lambda k: means[k]), max(means, key=lambda k: means[k])
        if means[high] > means[low] * (1 + _SLACK):
            share = means[high] / means[low] - 1
            yield Caution(
                f"unequal_{key}",
                f"Unequal {words}: {high} has {scaled(means[high])}, {low} {scaled(means[low])} ({share:+.1%}).",
            )


def _tokenizers(results: Results, comparison: Comparison) -> Iterator[Caution]:
    kinds = {
        json.dumps(run.config.get("tokenizer"), sort_keys=True) for _, runs in results.ended() for run in runs
    }
    if len(kinds) < 2:
        return
    if comparison.metric == "val_bits_per_byte":
        yield Caution(
            "tokenizers",
            "Tokenizers differ, so variants are compared by bits per byte, not by loss per token.",
        )
    elif comparison.metric.endswith("loss"):
        yield Caution(
            "loss_per_token",
            "Tokenizers differ, and a loss per token falls with shorter tokens: compare by metric=val_bits_per_byte.",
        )


def _ground(results: Results, comparison: Comparison) -> Iterator[Caution]:
    """Settings that were not varied on purpose and differ all the same; seeds that pair variants may differ."""
    paired = any(len(labels) > 1 for labels in _labels_by_seed(results).values())
    for key, words in _EQUAL_GROUND.items():
        if any(v == key or v.startswith(f"{key}.") or key.startswith(f"{v}.") for v in results.varied):
            continue
        values: dict[int, set[str]] = {}
        for run in results.runs:
            if run.config:
                told = json.dumps(_at(run.config, key), sort_keys=True)
                values.setdefault(run.seed if paired else 0, set()).add(told)
        if any(len(told) > 1 for told in values.values()):
            yield Caution(
                "unequal_ground", f"{words.capitalize()} differs between runs, though it was not varied."
            )


def _labels_by_seed(results: Results) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for run in results.runs:
        found.setdefault(run.seed, set()).add(run.label)
    return found


def _at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for word in key.split("."):
        value = value.get(word) if isinstance(value, Mapping) else None
    return value


def _machines(results: Results, comparison: Comparison) -> Iterator[Caution]:
    """Versions and devices, as each run's own env.json tells them."""
    from gptkit.errors import GptkitError
    from gptkit.run import Run

    found: dict[str, set[str]] = {"gptkit": set(), "torch": set(), "device": set()}
    for run in results.runs:
        if run.status != "finished":
            continue
        try:
            told = Run(run.path).environment()
        except (GptkitError, OSError):
            continue
        packages, hardware = told.get("packages"), told.get("hardware")
        found["gptkit"].add(str(told.get("gptkit")))
        if isinstance(packages, dict):
            found["torch"].add(str(packages.get("torch")))
        if isinstance(hardware, dict):
            gpus = json.dumps(hardware.get("gpus"), sort_keys=True)
            found["device"].add(
                f"{hardware.get('processor')} {gpus if gpus not in ('[]', 'null') else ''}".strip()
            )
    for name, values in found.items():
        if len(values) > 1:
            yield Caution("machines", f"Runs were made with different {name}s: {', '.join(sorted(values))}.")


def _threads(results: Results, comparison: Comparison) -> Iterator[Caution]:
    """A job that was gone on with may have had more or fewer cores than the others."""
    counts = threads(results.runs)
    if len(counts) < 2:
        return
    usual = max(counts, key=lambda count: sum(set(run.threads) == {count} for run in results.runs))
    odd = [run for run in results.runs if run.status == "finished" and set(run.threads) - {usual}]
    told = "; ".join(f"{run.label} seed {run.seed} on {_listed(run.threads)}" for run in odd[:6])
    others = any(set(run.threads) == {usual} for run in results.runs if run.status == "finished")
    budget = results.sweep.get("budget")
    timed = isinstance(budget, Mapping) and budget.get("kind") == "seconds"
    yield Caution(
        "threads",
        f"Jobs had different numbers of CPU threads: {told}{_more(odd, 6)}"
        f"{f'; the others on {usual}' if others else ''}. Their times and "
        f"speeds cannot be compared{', nor what they learned in a budget of seconds' if timed else ''}.",
    )


def _listed(counts: Sequence[int]) -> str:
    """Of one job, in the order of its starts: `1`, or `2, then 1`."""
    return ", then ".join(str(count) for count, _ in itertools.groupby(counts))


def _converged(results: Results, comparison: Comparison) -> Iterator[Caution]:
    """Whether losses of variants still fall by more than what tells those variants from others."""
    told = [d for d in comparison.differences if d.n_pairs > 1 and not d.equal]
    shown = [d for d in told if d.told_apart]
    gaps: dict[str, float] = {}  # the smallest that each variant has a part in
    for d in shown or told:
        gaps |= {label: min(abs(d.mean), gaps.get(label, math.inf)) for label in (d.a, d.b)}
    if not gaps or comparison.metric not in UNITS:  # shares and seconds are no measure of a fall
        return
    falling = {}
    for label, runs in results.ended():
        falls = [fall for run in runs if (fall := _still_falls(run, comparison.metric)) is not None]
        if falls:
            falling[label] = sum(falls) / len(falls)
    if not falling and any(results.ended()):
        yield Caution(
            "convergence_unknown",
            "Whether losses still fall cannot be told: a run has fewer than three validations and ten rows of metrics.",
        )
    steep = {label: fall for label, fall in falling.items() if fall > gaps.get(label, math.inf)}
    if steep:
        worst = sorted(steep, key=lambda k: -steep[k])
        named = "; of ".join(
            f"{label} by {steep[label]:.2g}, against {gaps[label]:.2g}" for label in worst[:3]
        )
        yield Caution(
            "not_converged",
            "Not converged: over the last quarter of training the validation loss still fell by more than the smallest "
            f"difference {'claimed' if shown else 'seen'} of the same variant ({comparison.unit}): of {named}"
            f"{_more(worst, 3)}. Longer training may "
            f"{'change the order' if shown else 'tell them apart'}.",
        )


def _still_falls(run: Trained, metric: str) -> float | None:
    """How far the validation loss fell over the last quarter of training, in the unit of what is compared."""
    key = metric if metric == "val_bits_per_byte" else "val_loss"
    seen = [(float(r["step"]), float(r[key])) for r in run.rows if r.get(key) is not None and r.get("step")]
    if len(seen) < 3:
        return _still_learns(run) if key == "val_loss" else None
    last_step, last = seen[-1]
    before = [loss for step, loss in seen if step <= 0.75 * last_step]
    return before[-1] - last if before else None


def _still_learns(run: Trained) -> float | None:
    """The same by the training loss, where there are too few validations: its mean near three quarters of
    training and near the end, in nats."""
    seen = [
        (float(r["step"]), float(r["loss"])) for r in run.rows if r.get("loss") is not None and r.get("step")
    ]
    last = seen[-1][0] if seen else 0.0
    before = [loss for step, loss in seen if 0.65 * last <= step <= 0.85 * last]
    after = [loss for step, loss in seen if step > 0.9 * last]
    if len(seen) < 10 or not before:
        return None
    return sum(before) / len(before) - sum(after) / len(after)


def _overlap(results: Results, comparison: Comparison) -> Iterator[Caution]:
    if len(comparison.ranking) < 2:
        return
    first, second = comparison.ranking[:2]
    gap = comparison.between(first.label, second.label)
    if gap is None or gap.told_apart or gap.n_pairs < 2:
        return
    if gap.equal:
        same = [one.label for one in comparison.ranking if one is second or one.scores == first.scores]
        told = (
            f"{'; '.join(same[:6])}{_more(same, 6)} share the first place: their scores are equal with every seed that "
            "they share."
        )
    else:
        told = f"{first.label} stands first by its mean alone: it cannot be told apart from {second.label}."
    yield Caution("tie_at_the_top", told)


def _ties(results: Results, comparison: Comparison) -> Iterator[Caution]:
    """Neighbours of the ranking, below the first two, whose order may be chance."""
    if comparison.baseline is not None:
        return
    tied = [
        f"{a.label} and {b.label}"
        for a, b in itertools.pairwise(comparison.ranking[1:])
        if (gap := comparison.between(a.label, b.label))
        and gap.n_pairs > 1
        and not (gap.told_apart or gap.equal)
    ]
    if tied:
        told = f"{'; '.join(tied[:4])}{_more(tied, 4)}"
        yield Caution("ties", f"Further down, the order of these may be chance: {told}.")


def _rates(results: Results, comparison: Comparison) -> Iterator[Caution]:
    """One learning rate for variants that may each want another."""
    keys = {key.split(".")[0] for key in results.varied} | {key.rsplit("/", 1)[-1] for key in results.varied}
    rates = {json.dumps(_at(run.config, "optimizer.lr")) for run in results.runs if run.config}
    chosen = {key for values in results.tuned.values() for key in values}
    tuned = any(key.endswith("lr") for key in (*results.varied, *chosen))
    if tuned or len(rates) != 1:
        return
    if "optimizer" in keys:
        yield Caution(
            "one_rate",
            "One learning rate for different optimizers: each has a range of its own. Vary optimizer.lr too.",
        )
    elif {"model", "d_model", "n_layers"} & {key.rsplit(".", 1)[-1] for key in results.varied}:
        yield Caution(
            "one_rate",
            "One learning rate for models of different sizes: larger ones often want a smaller one.",
        )


def _trained_text(results: Results, comparison: Comparison) -> Iterator[Caution]:
    told = [part(run, "proof") for run in results.runs]
    if comparison.metric.startswith("train") or any(one.get("evaluation_is_training") for one in told):
        yield Caution(
            "trained_text", "Scores are of text that was trained on: they tell memory, not what was learned."
        )
        return
    share = max((number(one.get("evaluation_seen")) for one in told if "evaluation_seen" in one), default=0.0)
    if share > _SLACK:
        yield Caution(
            "seen_text",
            f"{share:.1%} of the evaluation text stands in the training text too, in pieces of {SEEN} tokens: "
            "that part of the scores tells memory.",
        )
