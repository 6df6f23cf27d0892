"""What `tune=` says: which values each variant tries before its reported runs.

    tune=optimizer.lr:[1e-4,3e-3]          a range
    tune=optimizer.lr:1e-4,3e-4,1e-3       a list; {1e-4,3e-4,1e-3} is the same

Hydra's `interval(low,high)`, `tag(log,interval(low,high))` and `choice(one,other)` may stand there too. A
range whose ends are above 0 and lie a factor of ten apart or more is tried by its logarithm.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gptkit.errors import ConfigError, Problem, did_you_mean

SWEEPERS = ("grid", "optuna")
PRUNERS = ("median", "hyperband", "none")
TRIALS = {"grid": 5, "optuna": 10}  # of each key
SEED = 1000
_RATIO = 10.0
_RANGE = re.compile(r"^(?:\[([^,\[\]]+),([^,\[\]]+)\]|interval\(([^,()]+),([^,()]+)\))$")
_LOG = re.compile(r"^tag\(\s*log\s*,\s*(.*)\)$")
_WHOLE = re.compile(r"^[+-]?\d+$")

Values = dict[str, str]


@dataclass(frozen=True)
class Space:
    """The values of one key: those of a list, or those of a range.

    Attributes:
        key: of a config.
        choices: the list; empty for a range.
        low, high: the ends of a range, as they were typed.
        log: whether steps are equal by the logarithm.
        whole: whether values are whole numbers.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: str = ""
    high: str = ""
    log: bool = False
    whole: bool = False

    @classmethod
    def read(cls, key: str, text: str) -> Space:
        """From what stands after the key.

        Raises:
            ValueError: it is neither a range nor a list; says why.
        """
        text = text.strip()
        tagged = _LOG.match(text)
        inner = tagged[1].strip() if tagged else text
        ends = _RANGE.match(inner)
        if ends:
            low, high = (part.strip() for part in ends.groups() if part is not None)
            return cls._range(key, low, high, log=True if tagged else None)
        from gptkit.composing.sweeps import spread

        listed = inner[1:-1] if re.fullmatch(r"\{.*\}|\[.*\]", inner, re.DOTALL) else inner
        values = tuple(dict.fromkeys(value.strip() for value in spread(f"{key}={listed}")))
        if tagged or not all(values):
            raise ValueError("expected a range such as [1e-4,3e-3] or a list such as 1e-4,3e-4,1e-3")
        return cls(key, values)

    @classmethod
    def _range(cls, key: str, low: str, high: str, log: bool | None) -> Space:
        try:
            ends = float(low), float(high)
        except ValueError:
            raise ValueError("expected two numbers as the ends of a range") from None
        if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
            raise ValueError("expected a range whose first end is the lower one")
        if log and ends[0] <= 0:
            raise ValueError("expected ends above 0 for a logarithm")
        by_logarithm = log if log is not None else ends[0] > 0 and ends[1] / ends[0] >= _RATIO
        whole = all(_WHOLE.match(end) for end in (low, high))
        return cls(key, (), low, high, by_logarithm, whole)

    @property
    def ends(self) -> tuple[str, ...]:
        """What must make a config: every choice, or both ends."""
        return self.choices or (self.low, self.high)

    def at(self, share: float) -> str:
        """The value at a share of the range, 0 for its low end and 1 for its high one; of a list by its place."""
        if self.choices:
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        if share in (0.0, 1.0):
            return (self.low, self.high)[int(share)]
        low, high = float(self.low), float(self.high)
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        return str(round(value)) if self.whole else f"{value:.3g}"


@dataclass(frozen=True)
class Tuning:
    """What each variant tries, and on which seeds.

    Attributes:
        spaces: of each key.
        trials: how many each variant has.
        seeds: of the trials; none of them is a reported one.
        sweeper: `grid`, the same values for every variant, or `optuna`.
        pruner: which trials Optuna ends early.
        values: of each trial of a grid.
    """

    spaces: tuple[Space, ...]
    trials: int
    seeds: tuple[int, ...] = (SEED,)
    sweeper: str = "grid"
    pruner: str = "median"
    values: tuple[Values, ...] = field(default=())

    @property
    def keys(self) -> list[str]:
        return [space.key for space in self.spaces]

    @property
    def metric(self) -> str:
        """What trials are judged by: bits per byte where the tokenizer is tuned, else nats per token."""
        by_bytes = any(re.match(r"tokenizer\b", key) for key in self.keys)
        return "val_bits_per_byte" if by_bytes else "val_loss"

    @property
    def checked(self) -> list[Values]:
        """The values that must make configs before anything trains: all of a grid, else the ends of the ranges."""
        if self.values:
            return list(self.values)
        corners = itertools.product(*(space.ends for space in self.spaces))
        return [dict(zip(self.keys, ends, strict=True)) for ends in itertools.islice(corners, 64)]

    def facts(self) -> dict[str, Any]:
        """Plain data for `sweep.json`."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Tuning:
        """From what `facts` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        spaces = tuple(Space(**{**space, "choices": tuple(space["choices"])}) for space in facts["spaces"])
        if not spaces or facts["sweeper"] not in SWEEPERS:
            raise ValueError("tune holds no keys, or an unknown sweeper")
        values = tuple({str(k): str(v) for k, v in entry.items()} for entry in facts["values"])
        seeds = tuple(int(seed) for seed in facts["seeds"])
        return cls(spaces, int(facts["trials"]), seeds, facts["sweeper"], str(facts["pruner"]), values)


def words_of(values: Mapping[str, str]) -> list[str]:
    """The words that set them."""
    return [f"{key}={value}" for key, value in values.items()]


def read(own: Mapping[str, Sequence[str]], seeds: Sequence[int]) -> tuple[Tuning | None, list[Problem]]:
    """What the words `tune`, `trials`, `tune_seed`, `sweeper` and `pruner` say, and what is wrong with them.

    Args:
        own: the texts of each word.
        seeds: those that are reported.
    """
    given = own.get("tune", [])
    beside = [key for key in ("trials", "tune_seed", "sweeper", "pruner") if key in own]
    if not given:
        hint = "Name a key and its values: tune=optimizer.lr:[1e-4,3e-3]"
        return None, [Problem(key, "nothing is tuned.", hint) for key in beside]
    spaces, problems = _spaces(given)
    sweeper = _known("sweeper", own, SWEEPERS, problems)
    pruner = _known("pruner", own, PRUNERS, problems)
    if "pruner" in own and sweeper != "optuna":
        problems.append(Problem("pruner", "a grid runs all its trials.", "Add sweeper=optuna."))
    chosen = _seeds(own, seeds, sweeper, problems)
    count = _count(own, spaces, sweeper, problems)
    if problems:
        return None, problems
    values = tuple(grid(spaces, count)) if sweeper == "grid" else ()
    return Tuning(tuple(spaces), len(values) or count, tuple(chosen), sweeper, pruner, values), []


def grid(spaces: Sequence[Space], trials: int) -> list[Values]:
    """The values that every variant tries.

    Lists make every combination. One range is cut into equal steps, both ends among them. Where a range
    stands beside other keys they are the points of a Halton sequence (Halton 1960), which fill a space
    evenly: a grid of several keys would try few values of each (Bergstra and Bengio 2012).

    Args:
        spaces: of each key.
        trials: how many, where there is a range.
    """
    keys = [space.key for space in spaces]
    if all(space.choices for space in spaces):
        rows = list(itertools.product(*(space.choices for space in spaces)))
    elif len(spaces) == 1:
        rows = [(spaces[0].at(i / (trials - 1)),) for i in range(trials)]
    else:
        from scipy.stats import qmc

        points = qmc.Halton(len(spaces), scramble=False).fast_forward(1).random(trials)
        rows = [tuple(s.at(float(x)) for s, x in zip(spaces, point, strict=True)) for point in points]
    return [dict(zip(keys, row, strict=True)) for row in dict.fromkeys(rows)]


def _spaces(given: Sequence[str]) -> tuple[list[Space], list[Problem]]:
    """A space for each key. A shell makes several words of `{one,other}`; they are put together again."""
    spaces: dict[str, Space] = {}
    problems: list[Problem] = []
    for text in given:
        key, colon, values = (part.strip() for part in text.partition(":"))
        if not (key and colon and values):
            told = f"expected a key and its values, got {text!r}."
            problems.append(Problem("tune", told, "Write it as in tune=optimizer.lr:[1e-4,3e-3]"))
            continue
        try:
            space, before = Space.read(key, values), spaces.get(key)
        except (ValueError, ConfigError) as error:
            told = (
                error.problems[0].message if isinstance(error, ConfigError) else f"{error}, got {values!r}."
            )
            problems.append(Problem(f"tune={key}", told))
            continue
        if before and not (before.choices and space.choices):
            problems.append(Problem(f"tune={key}", "is named twice.", "Give all its values in one word."))
        merged = dict.fromkeys((*(before.choices if before else ()), *space.choices))
        spaces[key] = Space(key, tuple(merged)) if space.choices else space
    for space in spaces.values():
        if len(space.choices) == 1:
            told = f"one value is nothing to choose from, got {space.choices[0]!r}."
            problems.append(Problem(f"tune={space.key}", told, f"Give two or more, or set {space.key}=."))
    return list(spaces.values()), problems


def _known(key: str, own: Mapping[str, Sequence[str]], known: Sequence[str], problems: list[Problem]) -> str:
    text = own.get(key, [known[0]])[-1]
    if text not in known:
        hint = did_you_mean(text, known) or f"Take one of: {', '.join(known)}."
        problems.append(Problem(key, f"there is no {text!r}.", hint))
    return text


def _seeds(
    own: Mapping[str, Sequence[str]], reported: Sequence[int], sweeper: str, problems: list[Problem]
) -> list[int]:
    from gptkit.compare.asked import read_seeds

    free = next(seed for seed in itertools.count(SEED) if seed not in reported)
    try:
        chosen = read_seeds(own["tune_seed"][-1]) if "tune_seed" in own else [free]
    except ValueError as error:
        problems.append(Problem("tune_seed", f"{error}, got {own['tune_seed'][-1]!r}."))
        return [free]
    both = [str(seed) for seed in chosen if seed in reported]
    if both:
        told = f"{', '.join(both)} is reported too: what was chosen by a seed looks better on it than it is."
        problems.append(Problem("tune_seed", told, f"Take others: tune_seed={free}"))
    if sweeper == "optuna" and len(chosen) > 1:
        problems.append(Problem("tune_seed", "Optuna tunes on one seed.", f"tune_seed={chosen[0]}"))
    return chosen


def _count(
    own: Mapping[str, Sequence[str]], spaces: Sequence[Space], sweeper: str, problems: list[Problem]
) -> int:
    every = TRIALS.get(sweeper, 5) * max(1, len(spaces))
    if "trials" not in own:
        return every
    text = own["trials"][-1]
    if not re.fullmatch(r"\d{1,5}", text) or int(text) < 2:
        problems.append(Problem("trials", f"expected a whole number, 2 or more, got {text!r}."))
        return every
    if sweeper == "grid" and spaces and all(space.choices for space in spaces):
        whole = math.prod(len(space.choices) for space in spaces)
        if int(text) != whole:
            told = f"the lists make {whole} combinations, and each variant tries all of them."
            problems.append(Problem("trials", told, "Leave it out, or give a range: [low,high]."))
    return int(text)
