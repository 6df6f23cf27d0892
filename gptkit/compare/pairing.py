"""What proves that variants stood on equal ground: the same batches, first weights, text and budget."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from gptkit.compare.results import Results, Trained
from gptkit.compare.series import number, part
from gptkit.compare.tables import scaled
from gptkit.numbers import counted


@dataclass(frozen=True)
class Proof:
    """Whether variants stood on equal ground in one respect.

    Attributes:
        kind: a short name, such as `batches`.
        held: it was measured, and is so.
        text: what was found.
        otherwise: what it is where it does not hold: `broken`, `unknown` or `not asked for`.
    """

    kind: str
    held: bool
    text: str
    otherwise: str = "broken"

    @property
    def state(self) -> str:
        """In a word or two: `held`, or what it is instead."""
        return "held" if self.held else self.otherwise


def proofs(results: Results) -> list[Proof]:
    """What was measured of equal ground: batches, first weights, evaluation, tokenizer, budget."""
    told = list(results.ended())
    if results.sweep.get("lengths") == []:
        text = "Batches, first weights, evaluation, tokenizer: lengths=none measures nothing that would prove them."
        return [
            Proof("measures", False, text, "not asked for"),
            _budget(told, results.sweep.get("budget")),
        ]
    return [
        _batches(results),
        _weights(results),
        _evaluation(results),
        _same(
            "tokenizer",
            "Tokenizer",
            results,
            "tokenizer",
            "every run reads text with the same tokenizer",
            across=True,
        ),
        _budget(told, results.sweep.get("budget")),
    ]


def _unknown(kind: str, text: str) -> Proof:
    """What was not measured proves nothing, and refutes nothing."""
    return Proof(kind, False, text, "unknown")


def _same(
    kind: str,
    title: str,
    results: Results,
    key: str,
    claim: str,
    *,
    across: bool = False,
    at: str | None = None,
) -> Proof:
    """Whether a hash is the same within each seed, or across all runs; `at` takes one of several hashes."""
    groups: dict[int, dict[str, set[str]]] = {}
    if len(list(results.ended())) < 2 or not (across or _shared_seeds(results)):
        return _unknown(kind, f"{title}: no two variants have finished{'' if across else ' one seed'}.")
    for label, runs in results.ended():
        for run in runs:
            value = part(run, "proof").get(key)
            if at is not None:
                value = value.get(at) if isinstance(value, Mapping) else None
            if value is None:
                return _unknown(kind, f"{title}: not measured for {label} seed {run.seed}.")
            groups.setdefault(0 if across else run.seed, {}).setdefault(str(value), set()).add(label)
    for seed, values in groups.items():
        if len(values) > 1:
            parts = "; ".join(", ".join(sorted(labels)) for labels in values.values())
            where = "" if across else f" of seed {seed}"
            return Proof(kind, False, f"{title}{where} differ: {parts}.")
    first = next(iter(next(iter(groups.values()))))
    return Proof(kind, True, f"{title}: {claim} ({first[:12]}…).")


def _evaluation(results: Results) -> Proof:
    """Whether all runs were scored on one text, or at least those of each seed."""
    kind, title = "evaluation", "Evaluation"
    claim = "every run was scored on the same windows of the same text"
    found = _same(kind, title, results, kind, claim, across=True)
    if found.held:
        return found
    if not _shared_seeds(results):
        return found
    texts = {str(part(run, "proof").get(kind)) for _, runs in results.ended() for run in runs}
    claim = (
        f"each seed scored every variant on the same windows of the same text, of {len(texts)} texts in all"
    )
    return _same(kind, title, results, kind, claim)


def _batches(results: Results) -> Proof:
    """Whether the examples of each seed came in one order, and how far along it the runs went."""
    found = _same(
        "batches",
        "Batches",
        results,
        "batches",
        "each seed trained every variant on the same examples in the same order",
    )
    steps = {number(run.result.get("steps")) for _, runs in results.ended() for run in runs}
    steps = {count for count in steps if math.isfinite(count)}
    if len(steps) < 2:
        return found
    went = f"{min(steps):,.0f} to {max(steps):,.0f} steps"
    if found.held:
        return Proof("batches", True, f"{found.text[:-1]}, and runs went {went} along it.")
    first = 1 << (int(min(steps)).bit_length() - 1)  # as far as all went, digests stand at powers of two
    claim = f"each seed trained every variant on the same first {first:,} batches, and runs went {went}"
    shorter = _same("batches", "Batches", results, "batches_up_to", claim, at=str(first))
    return shorter if shorter.held else found


def _shared_seeds(results: Results) -> set[int]:
    """The seeds that two variants or more finished."""
    held = [results.finished(label).keys() for label in results.labels]
    return {seed for seed in results.seeds if sum(seed in seeds for seeds in held) > 1}


def _weights(results: Results) -> Proof:
    """Whether parameters of one name and shape start alike, seed by seed; an initialisation that goes by depth
    gives one draw another scale in a deeper model, and its signs show that it is the same."""
    shared = 0
    unequal, sized = set[str](), set[str]()
    for seed in results.seeds:
        runs = [held[seed] for label in results.labels if seed in (held := results.finished(label))]
        seen: dict[tuple[str, str], tuple[str, object]] = {}  # the first variant's, by name and shape
        for run in runs:
            table, signs = (part(run, "proof").get(key) for key in ("weights", "signs"))
            if not isinstance(table, Mapping):
                return _unknown("weights", f"First weights: not measured for {run.label} seed {seed}.")
            for name, told in table.items():
                shape, _, value = str(told).partition(" ")
                sign = signs.get(name) if isinstance(signs, Mapping) else None
                if (name, shape) not in seen:
                    seen[name, shape] = value, sign
                    continue
                shared += 1
                first, first_sign = seen[name, shape]
                if value != first:
                    (sized if sign and sign == first_sign else unequal).add(name)
    if unequal:
        return Proof(
            "weights", False, f"First weights differ under one name and shape: {_first_three(unequal)}."
        )
    if not shared:
        return _unknown("weights", "First weights: no two variants share a parameter.")
    pairs = f"First weights: all {shared:,} pairs of one name, shape and seed are"
    if not sized:
        return Proof("weights", True, f"{pairs} equal.")
    stand = "stands at a scale of its own" if len(sized) == 1 else "stand at a scale of their own"
    return Proof(
        "weights",
        True,
        f"{pairs} the same draws, sign for sign; {counted(len(sized), 'tensor')} {stand}, as where the initialisation "
        f"goes by depth: {_first_three(sized)}.",
    )


def _first_three(names: Collection[str]) -> str:
    return f"{', '.join(sorted(names)[:3])}{' …' if len(names) > 3 else ''}"


def _budget(told: Iterable[tuple[str, list[Trained]]], asked: object) -> Proof:
    """What each run used of what it was given: tokens, or what the sweep's budget counts."""
    told = list(told)
    kind = asked.get("kind") if isinstance(asked, Mapping) else None
    if kind in ("flops", "seconds"):
        return _used(told, kind, number(asked.get("value")) if isinstance(asked, Mapping) else math.nan)
    seen = [run.result.get("tokens") for _, runs in told for run in runs]
    tokens = {float(count) for count in seen if count is not None}
    if len(seen) != sum(count is not None for count in seen) or not tokens:
        return _unknown("budget", "Budget: the tokens trained on are not told.")
    if len(tokens) > 1:
        return Proof(
            "budget", False, f"Budget: runs saw from {scaled(min(tokens))} to {scaled(max(tokens))} tokens."
        )
    return Proof("budget", True, f"Budget: every run saw {next(iter(tokens)):,.0f} tokens.")


def _used(told: Iterable[tuple[str, list[Trained]]], kind: str, given: float) -> Proof:
    """Whether every run used a budget of operations or time, by at most a step's worth less or a tenth more."""
    words = {"flops": "operations", "seconds": "seconds"}[kind]
    used = {f"{label} seed {run.seed}": number(run.result.get(kind)) for label, runs in told for run in runs}
    if not used or not all(map(math.isfinite, used.values())) or not math.isfinite(given):
        return _unknown("budget", f"Budget: the {words} used are not told.")
    low, high = min(used.values()), max(used.values())
    span = f"{scaled(low)} to {scaled(high)} of {scaled(given)} {words}"
    off = [name for name, value in used.items() if not 0.9 * given <= value <= 1.1 * given]
    if off:
        return Proof("budget", False, f"Budget: runs used {span}; off by over a tenth: {', '.join(off[:4])}.")
    return Proof("budget", True, f"Budget: every run used what it was given ({span}).")
