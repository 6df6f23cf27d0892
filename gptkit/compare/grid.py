"""The configs of every variant with every seed, composed and checked; and what makes variants equal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gptkit.compare.equal import Budget, matching_width, sizes, tokens_per_step
from gptkit.compare.results import Point
from gptkit.compare.spaces import Tuning, words_of
from gptkit.compare.variants import Variant, key_of
from gptkit.errors import ConfigError, DataError, GptkitError, Problem

Config = dict[str, Any]


class Grid:
    """The configs of every variant with every seed.

    Args:
        variants: what varies.
        seeds: each variant is composed with each.
        config_dir: a folder with more YAML.
        more: words that hold for all, in place of those that are still to be chosen.
    """

    def __init__(
        self, variants: Sequence[Variant], seeds: Sequence[int], config_dir: Any, more: Sequence[str] = ()
    ) -> None:
        self.variants, self.seeds, self.config_dir, self.more = variants, seeds, config_dir, more
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
                for problem in dict.fromkeys(error.problems):
                    wrong.setdefault(problem, []).append(Point(0, variant.values, 0, []).words)
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
        return composed([*variant.words, *self.more, f"seed={seed}"], self.config_dir)


def check_trials(
    tuning: Tuning, grid: Grid, seeds: Sequence[int], *, budget: Budget | None, match: bool
) -> None:
    """Compose the trials of every variant, with what is reported of them, and have them be as equal as was asked.

    Args:
        tuning: what is tried.
        grid: the variants, composed.
        seeds: those that are reported.
        budget: what each run may use.
        match: whether parameters were made equal.

    Raises:
        ConfigError: a key is both set and tuned, a value cannot be built, or it changes what was made equal.
    """
    words = {key_of(word) for variant in grid.variants for word in variant.words}
    problems = [
        Problem(f"tune={key}", f"{key} is set or varied too.", "Leave one of them out.")
        for key in tuning.keys
        if key in words
    ]
    if problems:
        raise ConfigError(problems)
    tried = {
        (variant.label, number): Variant({**variant.values, **values}, [*variant.words, *words_of(values)])
        for variant in grid.variants
        for number, values in enumerate(tuning.checked)
    }
    trials = Grid(list(tried.values()), [*tuning.seeds, *seeds], grid.config_dir)
    trials.compose()
    for variant in grid.variants:
        found = [
            trials.configs[tried[variant.label, number].label, tuning.seeds[0]]
            for number in range(len(tuning.checked))
        ]
        problems += _unequal(found, budget, match)
    if problems:
        raise ConfigError(dict.fromkeys(problems))


def check_trainable(
    configs: Mapping[str, Config], *, read_text: bool = True, metric: str | None = None
) -> None:
    """Build models without their weights, and see whether their texts are there and long enough.

    Args:
        configs: one for each variant, by what tells it from the others.
        read_text: encode the text as well, which the jobs would otherwise do; it is kept.
        metric: what variants are compared by, the validation loss if left out.

    Raises:
        ConfigError: some cannot be trained, or two are one and the same.
    """
    from gptkit.train.preflight import preflight

    wrong: dict[str, list[str]] = {}
    same: dict[str, list[str]] = {}
    for words, config in configs.items():
        same.setdefault(json.dumps(config, sort_keys=True), []).append(words)
        try:
            data = preflight(config, read_text=read_text)
            if data and not data.val_split and "val_" in (metric or "val_"):
                raise DataError(
                    "No text is kept for validation, which variants are compared by. Set data.val_fraction, "
                    "or compare by metric=train_loss."
                )
        except GptkitError as error:
            wrong.setdefault(str(error), []).append(words)
    problems = [
        Problem("" if len(found) == len(configs) else "; ".join(found), told) for told, found in wrong.items()
    ]
    problems += [
        Problem("; ".join(found), "are one and the same: their configs are equal.", "Keep one of them.")
        for found in same.values()
        if len(found) > 1
    ]
    if problems:
        raise ConfigError(problems)


def _unequal(configs: Sequence[Config], budget: Budget | None, match: bool) -> list[Problem]:
    """What the tried values of one variant change that every run was to have alike."""
    problems = []
    if match and len({sizes(config).parameters for config in configs}) > 1:
        told = "what is tuned changes the number of parameters."
        problems.append(Problem("match", told, "Leave one of them out."))
    if budget and budget.kind != "seconds" and len({_used(config, budget) for config in configs}) > 1:
        told = f"what is tuned changes the {budget.kind} of a step."
        problems.append(Problem("budget", told, "Give trainer.max_steps in place of a budget."))
    return problems


def _used(config: Config, budget: Budget) -> float:
    each = 1.0 if budget.kind == "tokens" else sizes(config).flops_per_token
    return each * tokens_per_step(config)


def composed(words: Sequence[str], config_dir: Any = None) -> Config:
    """The config that words make.

    Raises:
        ConfigError: it cannot be built.
    """
    from gptkit.compose import compose

    return compose(words, config_dir=config_dir)
