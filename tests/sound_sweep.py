"""A sweep with nothing to complain of, and the same with something changed, for tests of cautions and proofs."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from gptkit.compare.results import Point, Results, Trained

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


def three(third: tuple[float, ...]) -> Results:
    """The sound sweep with a third variant."""
    runs = [
        replace(
            run, point=Point(6 + i, {"position": "c"}, run.seed, ()), result={**run.result, "val_loss": value}
        )
        for i, (run, value) in enumerate(zip(sound().runs[3:], third, strict=True))
    ]
    return replace(sound(), runs=[*sound().runs, *runs])
