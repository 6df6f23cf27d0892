"""From words to points: every variant with every seed, composed and checked before any is trained.

    gptkit compare position=rotary,learned model.n_heads=2,4 seed=1,2,3 trainer.max_steps=500

A key with several values varies; several such keys make a grid, or pairs with `zip=one,other`. All
other words hold for every point. Points are ordered by seed, so that a sweep that is cut short has
whole pairs.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gptkit import environment, files
from gptkit import run as runs
from gptkit.compare.asked import Asked, read, split
from gptkit.compare.equal import Budget, matching_width, sizes
from gptkit.compare.results import JOBS, SWEEP, Point
from gptkit.compare.variants import Variant, key_of, variants
from gptkit.errors import ConfigError, Problem, RunError, did_you_mean

FORMAT = 1

Config = dict[str, Any]


@dataclass
class Plan:
    """A sweep that can be run.

    Attributes:
        command: the words that were typed.
        asked: what those say that are not a config's.
        points: one for each job, by seed and then by variant.
        configs: the whole config of each point.
        varied: the keys that differ between variants.
        name: a word for the folder.
        match: how nearly parameters were made equal; None where that was not asked for.
    """

    command: list[str]
    asked: Asked
    points: list[Point]
    configs: list[Config]
    varied: list[str]
    name: str
    match: dict[str, Any] | None = None

    @property
    def labels(self) -> list[str]:
        """The variants, in order."""
        return list(dict.fromkeys(point.label for point in self.points))

    def sweep(self) -> dict[str, Any]:
        """What `sweep.json` holds."""
        budget: Any = vars(self.asked.budget) if self.asked.budget else None
        if self.match and not budget:
            budget = {"kind": "parameters", "value": self.match["parameters"]}
        told = environment.describe(self.configs[0])
        return {
            "format": FORMAT,
            "command": self.command,
            "varied": self.varied,
            "metric": self.asked.metric,
            "budget": budget,
            "match": self.match,
            "baseline": self.asked.baseline,
            "lengths": self.asked.lengths,
            "points": [
                {
                    "number": point.number,
                    "variant": dict(point.variant),
                    "seed": point.seed,
                    "overrides": list(point.overrides),
                }
                for point in self.points
            ],
            "versions": {"gptkit": told["gptkit"], "python": told["python"], **told["packages"]},
            "git": told["git"],
            "created": datetime.now(timezone.utc).isoformat(),
        }

    def create(self) -> Path:
        """Make the sweep's folder, `sweep.json` first, then a run directory for each point.

        Raises:
            RunError: the disk refuses.
        """
        stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
        folder = Path(self.configs[0]["run_root"]) / f"{stamp}-{self.name}-{secrets.token_hex(2)}"
        try:
            files.make_directory(folder / JOBS)
            files.write_json(folder / SWEEP, self.sweep())
        except OSError as error:
            raise RunError(f"{folder} cannot be written: {files.cause(error)}.") from error
        for point, config in zip(self.points, self.configs, strict=True):
            create_job(folder, point, config)
        return folder


def place_of(folder: Path, point: Point) -> Path:
    """The run directory of a point."""
    return folder / JOBS / f"{point.number:03d}"


def create_job(folder: Path, point: Point, config: Mapping[str, Any] | None = None) -> runs.Run:
    """The run of a point: made if it is not there.

    Args:
        folder: the sweep's.
        point: which one.
        config: the point's; composed from its words if left out.

    Raises:
        ConfigError: the words no longer make a config.
        RunError: the disk refuses.
    """
    place = place_of(folder, point)
    if (place / runs.CONFIG).is_file():
        return runs.Run(place)
    whole = _grouped(config if config is not None else _composed(list(point.overrides)), folder, point)
    made = runs.create(whole, point.overrides, root=folder / JOBS)
    try:
        made.path.rename(place)  # so that a folder with this name is whole
    except OSError as error:
        raise RunError(f"{place} cannot be made: {files.cause(error)}.") from error
    return runs.Run(place)


def plan(words: Sequence[str], *, config_dir: str | os.PathLike[str] | None = None) -> Plan:
    """Compose every point of a sweep.

    Args:
        words: as typed: `["position=rotary,learned", "seed=1,2"]`.
        config_dir: a folder with more YAML.

    Raises:
        ConfigError: words of the sweep's own are wrong, nothing varies, or points cannot be built;
            carries everything that is wrong with every point.
    """
    own, rest = split(words)
    asked, problems = read(own)
    found, more = variants(rest, asked.pairs, config_dir)
    if problems or more:
        raise ConfigError([*problems, *more])
    grid = _Grid(found, asked.seeds, config_dir)
    grid.compose()
    match = grid.match() if asked.match else None
    if asked.budget:
        grid.keep_to(asked.budget)
    points, configs = [], []
    for seed in asked.seeds:
        for variant in found:
            points.append(Point(len(points), variant.values, seed, [*variant.words, f"seed={seed}"]))
            configs.append(grid.configs[variant.label, seed])
    varied = list(dict.fromkeys(key for variant in found for key in variant.values))
    name = asked.name or _experiment(rest) or "-".join(key.rsplit(".", 1)[-1] for key in varied)
    made = Plan(list(words), asked, points, configs, varied, _word(name), match)
    if asked.baseline is not None and asked.baseline not in made.labels:
        hint = did_you_mean(asked.baseline, made.labels) or f"Variants: {'; '.join(made.labels)}."
        raise ConfigError([Problem("baseline", f"no variant is called {asked.baseline!r}.", hint)])
    return made


class _Grid:
    """The configs of every variant with every seed."""

    def __init__(self, variants: Sequence[Variant], seeds: Sequence[int], config_dir: Any) -> None:
        self.variants, self.seeds, self.config_dir = variants, seeds, config_dir
        self.configs: dict[tuple[str, int], Config] = {}

    def compose(self) -> None:
        """Compose them all.

        Raises:
            ConfigError: some cannot be built; tells each problem with the words of the variants that have it.
        """
        from gptkit.train.launch import devices

        wrong: dict[Problem, list[str]] = {}
        alone: bool | None = None  # whether the seed is told to nothing but `seed`
        for variant in self.variants:
            try:
                first = self._config(variant, self.seeds[0])
                devices(first)
                if alone is None:
                    alone = {**self._config(variant, self.seeds[-1]), "seed": first["seed"]} == first
                for seed in self.seeds:
                    config = {**first, "seed": seed} if alone else self._config(variant, seed)
                    self.configs[variant.label, seed] = config
            except ConfigError as error:
                words = " ".join(f"{key}={value}" for key, value in variant.values.items())
                for problem in dict.fromkeys(error.problems):
                    wrong.setdefault(problem, []).append(words)
        if wrong:
            raise ConfigError(
                problem if len(points) == len(self.variants) else Problem("; ".join(points), str(problem))
                for problem, points in wrong.items()
            )

    def match(self) -> dict[str, Any]:
        """Widen or narrow each variant's feed-forward network towards the first one's parameters.

        Raises:
            ConfigError: the width is what varies.
        """
        if any("model.d_ff" in variant.values for variant in self.variants):
            told = "it adjusts model.d_ff, which varies here."
            raise ConfigError([Problem("match", told, "Leave one of them out.")])
        target = sizes(self._first(self.variants[0])).parameters
        record: dict[str, Any] = {}
        for variant in self.variants:
            width, parameters = matching_width(self._first(variant), target)
            difference = (parameters - target) / target
            record[variant.label] = {"parameters": parameters, "d_ff": width, "difference": difference}
            variant.words += [] if width is None else [f"model.d_ff={width}"]
        self.compose()
        return {"parameters": target, "variants": record}

    def keep_to(self, budget: Budget) -> None:
        """Have each variant use what the budget allows.

        Raises:
            ConfigError: the number of steps is fixed already.
        """
        words = {key_of(word) for variant in self.variants for word in variant.words}
        if budget.kind != "seconds" and "trainer.max_steps" in words:
            told = f"budget={budget.kind} decides trainer.max_steps."
            raise ConfigError([Problem("budget", told, "Leave one of them out.")])
        for variant in self.variants:
            variant.words += budget.words(self._first(variant))
        self.compose()

    def _first(self, variant: Variant) -> Config:
        return self.configs[variant.label, self.seeds[0]]

    def _config(self, variant: Variant, seed: int) -> Config:
        return _composed([*variant.words, f"seed={seed}"], self.config_dir)


def _composed(words: Sequence[str], config_dir: Any = None) -> Config:
    from gptkit.compose import compose

    return compose(words, config_dir=config_dir)


def _grouped(config: Mapping[str, Any], folder: Path, point: Point) -> Config:
    """The config with what a logger needs to know to show the runs of a sweep together."""
    whole = dict(config)
    wandb = whole.get("logger", {}).get("wandb")
    if wandb is not None:
        told = {"group": folder.name, "name": f"{point.label}, seed {point.seed}", "job_type": "compare"}
        more = {key: value for key, value in told.items() if wandb.get(key) is None}
        whole["logger"] = {**whole["logger"], "wandb": {**wandb, **more}}
    return whole


def _experiment(words: Sequence[str]) -> str:
    chosen = [word.partition("=")[2] for word in words if key_of(word) == "experiment"]
    return chosen[-1] if chosen and "," not in chosen[-1] else ""


def _word(text: str) -> str:
    """A folder's word: letters, digits, dots and dashes."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-._")[:40] or "sweep"
