"""The words of a sweep that are not a config's: seeds, budget, pairs, where to measure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gptkit.compare import spaces
from gptkit.compare.equal import Budget
from gptkit.errors import ConfigError, Problem

SEEDS = (1, 2, 3)
LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
METRICS = ("val_loss", "val_bits_per_byte", "train_loss", "best_val_loss")
OWN = {
    "seed": "the seeds, 1,2,3 by default; each variant is trained with each",
    "zip": "keys whose values go in pairs, in place of a grid: zip=position,optimizer.lr",
    "budget": "what each variant may use: tokens:1e6, flops:1e12 or seconds:60",
    "match": "parameters: adjust model.d_ff until each variant has as many as the first",
    "baseline": "the variant that the others are measured against",
    "tune": "a key and the values that each variant tries first: tune=optimizer.lr:[1e-4,3e-3]",
    "trials": "how many values each variant tries, 5 for each key by default, 10 with Optuna",
    "tune_seed": "the seed of the trials, 1000 by default; no seed that is reported",
    "sweeper": "who chooses the values: grid, the same for every variant, or optuna",
    "pruner": "which trials Optuna ends early: median, hyperband or none",
    "lengths": "at which parts and multiples of the context to measure afterwards; none measures nothing",
    "metric": "what to compare by, val_loss by default",
    "name": "a word for the sweep's folder",
    "jobs": "how many trainings at once; auto fills the machine",
}


@dataclass
class Asked:
    """What they say.

    Attributes:
        seeds: each variant is trained with each.
        pairs: groups of keys whose values go together.
        budget: what each variant may use; None leaves `trainer.max_steps` as it is.
        match: whether parameters are to be made equal.
        baseline: a variant's label.
        lengths: factors of the context at which to measure afterwards; none for no measuring at all.
        metric: what to compare by; None lets the results decide.
        name: a word for the folder.
        jobs: how many at once; None fills the machine.
        tuning: what each variant tries first; None for nothing.
    """

    seeds: list[int] = field(default_factory=lambda: list(SEEDS))
    pairs: list[list[str]] = field(default_factory=list)
    budget: Budget | None = None
    match: bool = False
    baseline: str | None = None
    lengths: list[float] = field(default_factory=lambda: list(LENGTHS))
    metric: str | None = None
    name: str = ""
    jobs: int | None = None
    tuning: spaces.Tuning | None = None


def split(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The sweep's own words by key, and those of configs."""
    own: dict[str, list[str]] = {}
    rest = []
    for word in words:
        key, equals, text = word.partition("=")
        key = "sweeper" if key == "hydra/sweeper" else key
        if equals and key in OWN:
            own.setdefault(key, []).append(text)
        else:
            rest.append(word)
    return own, rest


def read(own: Mapping[str, Sequence[str]]) -> tuple[Asked, list[Problem]]:
    """What the sweep's own words say, and what is wrong with them."""
    asked, problems = Asked(), []
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "seed": ("seeds", read_seeds),
        "budget": ("budget", Budget.read),
        "match": ("match", lambda text: bool(_one_of(text, ("parameters",)))),
        "baseline": ("baseline", str),
        "lengths": ("lengths", _factors),
        "metric": ("metric", _metric),
        "name": ("name", str),
        "jobs": ("jobs", read_jobs),
    }
    for key, (name, reader) in readers.items():
        for text in own.get(key, [])[-1:]:
            try:
                setattr(asked, name, reader(text))
            except ConfigError as error:
                problems += error.problems
            except ValueError as error:
                problems.append(Problem(key, f"{error}, got {text!r}."))
    asked.pairs = [[key.strip() for key in text.strip("[]").split(",")] for text in own.get("zip", [])]
    asked.tuning, more = spaces.read(own, asked.seeds)
    return asked, [*problems, *more]


def read_seeds(text: str) -> list[int]:
    """Seeds, each once.

    Raises:
        ValueError: they are no whole numbers.
    """
    from gptkit.composing.sweeps import spread

    values = spread(f"seed={text.strip('[]')}")
    if not all(re.fullmatch(r"\d+", value) for value in values):
        raise ValueError("expected whole numbers, such as 1,2,3 or range(1,6)")
    return list(dict.fromkeys(map(int, values)))


def _factors(text: str) -> list[float]:
    expected = "expected positive factors, such as 0.5,1,2, or none"
    if text == "none":
        return []
    try:
        found = sorted({float(part) for part in text.strip("[]").split(",")})
    except ValueError:
        raise ValueError(expected) from None
    if not all(0 < factor < 1e6 for factor in found):
        raise ValueError(expected)
    return found


def read_jobs(text: str) -> int | None:
    """How many at once: a number, or None for `auto`.

    Raises:
        ValueError: it is neither.
    """
    if text == "auto":
        return None
    if not re.fullmatch(r"[1-9]\d*", text):
        raise ValueError("expected auto or a whole number, 1 or more")
    return int(text)


def _metric(text: str) -> str:
    if re.fullmatch(r"\w+_error", text):  # of a split of a corpus of examples
        return text
    if text not in METRICS:
        raise ValueError(f"expected {', '.join(METRICS)}, or of answers val_error or length_24_error")
    return text


def _one_of(text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise ValueError(f"expected {' or '.join(known)}")
    return text
