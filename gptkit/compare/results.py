"""What a sweep found, read from its folder alone.

20261124-101500-positions-3fa1/
    sweep.json       what was asked: command, varied keys, points, budget, versions; written first
    trials/000/      one run directory for each trial, where variants are tuned first
    tuned.json       what the trials chose for each variant
    jobs/000/        one run directory for each point, as `gptkit train` makes it
        measures.json  what was measured after training
        log.txt        what the job printed
        threads.json   how many CPU threads it had, a number for each time that it was begun
    results.json  results.csv  report.md  report.html  plots/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SWEEP, JOBS, MEASURES, LOG, PLOTS = "sweep.json", "jobs", "measures.json", "log.txt", "plots"
TRIALS, TUNED, PRUNED, THREADS = "trials", "tuned.json", "pruned.json", "threads.json"


@dataclass(frozen=True)
class Point:
    """One job: a variant and a seed.

    Attributes:
        number: its place in the sweep, which names its folder.
        variant: the value of each varied key but the seed, as it was typed: `{"position": "rotary"}`.
        seed: the run's.
        overrides: all words that compose it.
        trial: which trial of its variant it is; None for a run that is reported.
        tuned: the value of each tuned key, once it is known.
    """

    number: int
    variant: Mapping[str, str]
    seed: int
    overrides: Sequence[str]
    trial: int | None = None
    tuned: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The variant in words: `rotary`; with its keys where a value alone says nothing, `n_heads=8`, or where
        several vary, `position=rotary, n_heads=8`."""
        [value, *more] = self.variant.values() or [""]
        says_it = value[:1].isalpha() and value not in ("true", "false", "null")
        return value if says_it and not more else _short(self.variant)

    @property
    def words(self) -> str:
        """What tells the variant from the others, as it was typed: `position=rotary model.n_heads=8`."""
        return " ".join(f"{key}={value}" for key, value in self.variant.items())

    @property
    def name(self) -> str:
        """The point in words: `rotary, seed 1`; a trial with what it tries: `rotary, lr=0.0003, seed 1000`."""
        return f"{self.label if self.trial is None else self.tried}, seed {self.seed}"

    @property
    def tried(self) -> str:
        """A variant with the values that were tuned: `rotary, lr=0.0003`."""
        return f"{self.label}, {_short(self.tuned)}"


def _short(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in values.items())


@dataclass(frozen=True)
class Trained:
    """One point, and what came of it.

    Attributes:
        point: which one.
        path: its run directory.
        status: `finished`, `failed`, `stopped`, `lost` or `new`, as `gptkit.run.Run.status` says; a trial
            that was ended early is `pruned`.
        result: what `result.json` holds; empty before its end.
        rows: the rows of `metrics.jsonl`: step, tokens, seconds, loss or val_loss, ...
        measures: what `measures.json` holds; empty where nothing was measured.
        config: the run's whole config.
        error: the last lines of a job that failed.
        threads: of the CPU that trained and measured it, each time that its job was begun; empty where
            another device did, or nobody noted.
    """

    point: Point
    path: Path
    status: str
    result: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    measures: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    threads: Sequence[int] = ()

    @property
    def label(self) -> str:
        return self.point.label

    @property
    def seed(self) -> int:
        return self.point.seed


def score(result: Mapping[str, Any], name: str) -> Any:
    """A number of `result.json`, or the share of a split's answers that is wrong.

    Args:
        result: what the file holds.
        name: such as `val_loss`; `val_error`, or `length_24_error` and `length_24_token_error` of the split
            `length_24`. Lower is better in each.
    """
    split, is_error, _ = name.rpartition("_error")
    if not is_error:
        return result.get(name)
    split, of_tokens, _ = split.rpartition("_token") if split.endswith("_token") else (split, "", "")
    splits = result.get("splits")
    told = splits.get(split) if isinstance(splits, Mapping) else None
    share = told.get("token_accuracy" if of_tokens else "accuracy") if isinstance(told, Mapping) else None
    return 1 - share if isinstance(share, (int, float)) else None


@dataclass(frozen=True)
class Results:
    """A whole sweep.

    Attributes:
        folder: where it lies.
        varied: the keys that differ between variants, the seed left out.
        command: the words that were typed.
        runs: every point, in order.
        sweep: what `sweep.json` holds.
        trials: the trials that were begun, where variants were tuned first.
        tuned: what they chose for each variant: values, trial and loss, by its label.
    """

    folder: Path
    varied: Sequence[str]
    command: Sequence[str]
    runs: Sequence[Trained]
    sweep: Mapping[str, Any] = field(default_factory=dict)
    trials: Sequence[Trained] = ()
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """The variants, in the order in which they were asked for."""
        return list(dict.fromkeys(run.label for run in self.runs))

    @property
    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return sorted({run.seed for run in self.runs})

    @property
    def metric(self) -> str:
        """What variants are compared by: bits per byte where tokenizers differ, else nats per token."""
        tokenizers = {str(run.config.get("tokenizer")) for run in self.runs if run.config}
        return "val_bits_per_byte" if len(tokenizers) > 1 else "val_loss"

    def finished(self, label: str) -> dict[int, Trained]:
        """The runs of a variant that ended well, by seed."""
        return {run.seed: run for run in self.runs if run.label == label and run.status == "finished"}

    def ended(self) -> Iterator[tuple[str, list[Trained]]]:
        """Each variant of which a run ended well, with those runs."""
        for label in self.labels:
            runs = list(self.finished(label).values())
            if runs:
                yield label, runs

    def scores(self, metric: str | None = None) -> dict[str, dict[int, float]]:
        """The metric of each finished run, by variant and seed."""
        name = metric or self.metric
        return {
            label: {seed: float(score(run.result, name)) for seed, run in self.finished(label).items()}
            for label in self.labels
        }
