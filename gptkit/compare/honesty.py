"""Where a claim would be weak, and what proves that variants stood on equal ground."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gptkit.compare.results import Results, Trained
from gptkit.compare.statistics import Comparison

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


@dataclass(frozen=True)
class Proof:
    """Whether variants stood on equal ground in one respect.

    Attributes:
        kind: a short name, such as `batches`.
        held: it was measured, and is so.
        text: what was found.
    """

    kind: str
    held: bool
    text: str


def warnings(results: Results, comparison: Comparison) -> list[Caution]:
    """Every weakness that the sweep shows, the gravest first."""
    return [
        caution
        for check in (
            _seeds,
            _missing,
            _numbers,
            _tokenizers,
            _ground,
            _machines,
            _converged,
            _overlap,
            _rates,
            _trained_text,
        )
        for caution in check(results, comparison)
    ]


def _finished(results: Results) -> Iterator[tuple[str, list[Trained]]]:
    for label in results.labels:
        runs = list(results.finished(label).values())
        if runs:
            yield label, runs


def _seeds(results: Results, comparison: Comparison) -> Iterator[Caution]:
    counts = {label: len(runs) for label, runs in _finished(results)}
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
        told = ", ".join(f"{run.label} seed {run.seed} ({run.status})" for run in gone[:6])
        more = f" and {len(gone) - 6} more" if len(gone) > 6 else ""
        yield Caution("missing_runs", f"Left out: {told}{more}. What failed is not a matter of chance.")
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
            f"Not every variant has every seed ({', '.join(uneven)} lack some): pairs hold only those of both.",
        )


def _numbers(results: Results, comparison: Comparison) -> Iterator[Caution]:
    for key, words in (
        ("parameters", "parameters"),
        ("tokens", "tokens trained on"),
        ("flops", "operations in training"),
    ):
        means = {
            label: sum(values) / len(values)
            for label, runs in _finished(results)
            if (values := [float(run.result[key]) for run in runs if run.result.get(key)])
        }
        if not means:
            continue
        low, high = min(means, key=lambda k: means[k]), max(means, key=lambda k: means[k])
        if means[high] > means[low] * (1 + _SLACK):
            share = means[high] / means[low] - 1
            yield Caution(
                f"unequal_{key}",
                f"Unequal {words}: {high} has {_short(means[high])}, {low} {_short(means[low])} ({share:+.1%}).",
            )


def _tokenizers(results: Results, comparison: Comparison) -> Iterator[Caution]:
    kinds = {
        json.dumps(run.config.get("tokenizer"), sort_keys=True)
        for _, runs in _finished(results)
        for run in runs
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
    """Settings that were not varied on purpose and differ all the same."""
    for key, words in _EQUAL_GROUND.items():
        if any(v == key or v.startswith(f"{key}.") or key.startswith(f"{v}.") for v in results.varied):
            continue
        values = {json.dumps(_at(run.config, key), sort_keys=True) for run in results.runs if run.config}
        if len(values) > 1:
            yield Caution(
                "unequal_ground", f"{words.capitalize()} differs between runs, though it was not varied."
            )


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


def _converged(results: Results, comparison: Comparison) -> Iterator[Caution]:
    """Whether losses still fall by more than what variants differ by."""
    gaps = [abs(d.mean) for d in comparison.differences if d.told_apart]
    if not gaps:
        return
    falling = {}
    for label, runs in _finished(results):
        falls = [fall for run in runs if (fall := _still_falls(run, comparison.metric)) is not None]
        if falls:
            falling[label] = sum(falls) / len(falls)
    steep = {label: fall for label, fall in falling.items() if fall > min(gaps)}
    if steep:
        worst = max(steep, key=lambda k: steep[k])
        yield Caution(
            "not_converged",
            f"Not converged: over its last quarter the validation loss of {worst} still fell by "
            f"{steep[worst]:.3g} {comparison.unit}, more than the smallest difference claimed ({min(gaps):.2g}). "
            "Longer training may change the order.",
        )


def _still_falls(run: Trained, metric: str) -> float | None:
    """How far the validation loss fell over the last quarter of training, in the unit of what is compared."""
    key = metric if metric == "val_bits_per_byte" else "val_loss"
    seen = [(float(r["step"]), float(r[key])) for r in run.rows if r.get(key) is not None and r.get("step")]
    if len(seen) < 3:
        return None
    last_step, last = seen[-1]
    before = [loss for step, loss in seen if step <= 0.75 * last_step]
    return before[-1] - last if before else None


def _overlap(results: Results, comparison: Comparison) -> Iterator[Caution]:
    if len(comparison.ranking) < 2:
        return
    first, second = comparison.ranking[:2]
    gap = comparison.between(first.label, second.label)
    if gap is None or gap.told_apart or gap.n_pairs < 2:
        return
    yield Caution(
        "tie_at_the_top",
        f"{first.label} stands first by its mean alone: it cannot be told apart from {second.label}.",
    )


def _rates(results: Results, comparison: Comparison) -> Iterator[Caution]:
    """One learning rate for variants that may each want another."""
    keys = {key.split(".")[0] for key in results.varied} | {key.rsplit("/", 1)[-1] for key in results.varied}
    rates = {json.dumps(_at(run.config, "optimizer.lr")) for run in results.runs if run.config}
    tuned = any(key.endswith("lr") for key in results.varied)
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
    if not comparison.metric.startswith("train") and not any(
        _proof(run).get("evaluation_is_training") for run in results.runs
    ):
        return
    yield Caution(
        "trained_text", "Scores are of text that was trained on: they tell memory, not what was learned."
    )


def _short(value: float) -> str:
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def proofs(results: Results) -> list[Proof]:
    """What was measured of equal ground: batches, first weights, evaluation, tokenizer, budget."""
    told = list(_finished(results))
    return [
        _same(
            "batches",
            "Batches",
            results,
            "batches",
            "each seed trained every variant on the same examples in the same order",
        ),
        _weights(results),
        _same(
            "evaluation",
            "Evaluation",
            results,
            "evaluation",
            "every run was scored on the same windows of the same text",
            across=True,
        ),
        _same(
            "tokenizer",
            "Tokenizer",
            results,
            "tokenizer",
            "every run reads text with the same tokenizer",
            across=True,
        ),
        _budget(told),
    ]


def _proof(run: Trained) -> Mapping[str, Any]:
    held = run.measures.get("proof")
    return held if isinstance(held, Mapping) else {}


def _same(kind: str, title: str, results: Results, key: str, claim: str, across: bool = False) -> Proof:
    """Whether a hash is the same within each seed, or across all runs."""
    groups: dict[int, dict[str, set[str]]] = {}
    if len(list(_finished(results))) < 2 or not (across or _shared_seeds(results)):
        return Proof(kind, False, f"{title}: no two variants have finished{'' if across else ' one seed'}.")
    for label, runs in _finished(results):
        for run in runs:
            value = _proof(run).get(key)
            if value is None:
                return Proof(kind, False, f"{title}: not measured for {label} seed {run.seed}.")
            groups.setdefault(0 if across else run.seed, {}).setdefault(str(value), set()).add(label)
    for seed, values in groups.items():
        if len(values) > 1:
            parts = "; ".join(", ".join(sorted(labels)) for labels in values.values())
            where = "" if across else f" of seed {seed}"
            return Proof(kind, False, f"{title}{where} differ: {parts}.")
    first = next(iter(next(iter(groups.values()))))
    return Proof(kind, True, f"{title}: {claim} ({first[:12]}…).")


def _shared_seeds(results: Results) -> set[int]:
    """The seeds that two variants or more finished."""
    held = [results.finished(label).keys() for label in results.labels]
    return {seed for seed in results.seeds if sum(seed in seeds for seeds in held) > 1}


def _weights(results: Results) -> Proof:
    """Whether parameters of one name and shape start alike, seed by seed."""
    shared = 0
    unequal: set[str] = set()
    for seed in results.seeds:
        runs = [held[seed] for label in results.labels if seed in (held := results.finished(label))]
        seen: dict[tuple[str, str], str] = {}  # the first variant's digest of each name and shape
        for run in runs:
            table = _proof(run).get("weights")
            if not isinstance(table, Mapping):
                return Proof("weights", False, f"First weights: not measured for {run.label} seed {seed}.")
            for name, told in table.items():
                shape, _, value = str(told).partition(" ")
                if (name, shape) in seen:
                    shared += 1
                    unequal |= {name} if value != seen[name, shape] else set()
                seen.setdefault((name, shape), value)
    if unequal:
        names = ", ".join(sorted(unequal)[:3])
        more = " …" if len(unequal) > 3 else ""
        return Proof("weights", False, f"First weights differ under one name and shape: {names}{more}.")
    if not shared:
        return Proof("weights", False, "First weights: no two variants share a parameter.")
    return Proof(
        "weights", True, f"First weights: all {shared:,} pairs of one name, shape and seed are equal."
    )


def _budget(told: Iterable[tuple[str, list[Trained]]]) -> Proof:
    seen = [run.result.get("tokens") for _, runs in told for run in runs]
    tokens = {float(count) for count in seen if count is not None}
    if len(seen) != sum(count is not None for count in seen) or not tokens:
        return Proof("budget", False, "Budget: the tokens trained on are not told.")
    if len(tokens) > 1:
        return Proof(
            "budget", False, f"Budget: runs saw from {_short(min(tokens))} to {_short(max(tokens))} tokens."
        )
    return Proof("budget", True, f"Budget: every run saw {next(iter(tokens)):,.0f} tokens.")
