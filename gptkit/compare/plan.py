"""From words to points: every variant with every seed, composed and checked before any is trained.

    gptkit compare position=rotary,learned model.n_heads=2,4 seed=1,2,3 trainer.max_steps=500

A key with several values varies; several such keys make a grid, or pairs with `zip=one,other`. All
other words hold for every point. Points are ordered by seed, so that a sweep that is cut short has
whole pairs. With `tune=` each variant has trials first; what they choose is added to its points then.
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
from gptkit.compare.grid import Config, Grid, check_trainable, check_trials, composed
from gptkit.compare.optuna_search import library
from gptkit.compare.results import JOBS, SWEEP, TRIALS, Point
from gptkit.compare.spaces import words_of
from gptkit.compare.variants import key_of, variants
from gptkit.errors import ConfigError, Problem, RunError, did_you_mean

FORMAT = 1


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
            "tune": self.asked.tuning.facts() if self.asked.tuning else None,
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

    def check(self, *, read_text: bool = True) -> None:
        """See that every variant can be trained.

        Args:
            read_text: see that each text is there and long enough, which encodes it.

        Raises:
            ConfigError: some cannot; carries what is wrong with each.
        """
        both = zip(self.points, self.configs, strict=True)
        configs = {point.words: config for point, config in both if point.seed == self.asked.seeds[0]}
        check_trainable(configs, read_text=read_text, metric=self.asked.metric)

    def create(self) -> Path:
        """Make the sweep's folder, `sweep.json` first, then a run directory for each point.

        Where variants are tuned their points are not settled yet, and run directories are made later.

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
        if not self.asked.tuning:
            for point, config in zip(self.points, self.configs, strict=True):
                create_job(folder, point, config)
        return folder


def place_of(folder: Path, point: Point) -> Path:
    """The run directory of a point."""
    return folder / (JOBS if point.trial is None else TRIALS) / f"{point.number:03d}"


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
    whole = _grouped(config if config is not None else composed(list(point.overrides)), folder, point)
    made = runs.create(whole, point.overrides, root=place.parent)
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
        UserError: Optuna is asked for and missing.
    """
    own, rest = split(words)
    asked, problems = read(own)
    found, more = variants(rest, asked.pairs, config_dir, alone=asked.tuning is not None)
    if problems or more:
        if not problems and not found and len(more) == 1 and not more[0].key:
            composed(rest, config_dir)  # what is wrong with the words comes before that nothing differs
        raise ConfigError([*problems, *more])
    first = words_of(asked.tuning.checked[0]) if asked.tuning else []
    grid = Grid(found, asked.seeds, config_dir, first)
    grid.compose()
    match = grid.match() if asked.match else None
    if asked.budget:
        grid.keep_to(asked.budget)
    if asked.tuning:
        if asked.tuning.sweeper == "optuna":
            library()
        check_trials(asked.tuning, grid, asked.seeds, budget=asked.budget, match=asked.match)
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


def _grouped(config: Mapping[str, Any], folder: Path, point: Point) -> Config:
    """The config with what a logger needs to know to show the runs of a sweep together."""
    whole = dict(config)
    wandb = whole.get("logger", {}).get("wandb")
    if wandb is not None:
        kind = "compare" if point.trial is None else "tune"
        told = {"group": folder.name, "name": point.name, "job_type": kind}
        more = {key: value for key, value in told.items() if wandb.get(key) is None}
        whole["logger"] = {**whole["logger"], "wandb": {**wandb, **more}}
    return whole


def _experiment(words: Sequence[str]) -> str:
    chosen = [word.partition("=")[2] for word in words if key_of(word) == "experiment"]
    return chosen[-1] if chosen and "," not in chosen[-1] else ""


def _word(text: str) -> str:
    """A folder's word: letters, digits, dots and dashes."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-._")[:40] or "sweep"
