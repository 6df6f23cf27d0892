"""The trials of a sweep in which variants are tuned first, and what they chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gptkit import files
from gptkit import run as runs
from gptkit.compare.results import SWEEP, TRIALS, TUNED, Point
from gptkit.compare.spaces import Tuning, Values, words_of
from gptkit.errors import RunError


def tuning_of(sweep: Mapping[str, Any]) -> Tuning | None:
    """What variants are tuned by; None where they are not.

    Args:
        sweep: what `sweep.json` holds.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return Tuning.of(sweep["tune"]) if sweep.get("tune") else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{SWEEP} cannot be used: tune: {type(error).__name__}: {error}.") from None


def trials_of(folder: Path, sweep: Mapping[str, Any], points: Sequence[Point]) -> list[Point]:
    """A point for each trial and seed; `tuned` is empty where it is not known yet what Optuna will try.

    They go by trial and then by variant, so that a sweep that is cut short has tried as much of each.

    Args:
        folder: the sweep's.
        sweep: what `sweep.json` holds.
        points: those that are reported.

    Raises:
        RunError: what `sweep.json` says of them cannot be read.
    """
    tuning = tuning_of(sweep)
    if tuning is None:
        return []
    variants = list({point.label: point for point in points}.values())
    found: list[Point] = []
    for trial in range(tuning.trials):
        for variant in variants:
            for seed in tuning.seeds:
                point = Point(len(found), variant.variant, seed, variant.overrides, trial)
                tried = tuning.values[trial] if tuning.values else _begun(folder, point, tuning)
                found.append(settled(point, tried))
    return found


def settled(point: Point, values: Mapping[str, str] | None) -> Point:
    """The point with the values that were chosen for it, where any were."""
    words = [word for word in point.overrides if not word.startswith("seed=")]
    overrides = [*words, *words_of(values or {}), f"seed={point.seed}"]
    return replace(point, overrides=overrides, tuned=dict(values or {}))


def read_tuned(folder: Path) -> dict[str, dict[str, Any]]:
    """What was chosen for each variant, so far: the values by its label.

    Raises:
        RunError: it cannot be read.
    """
    path = Path(folder) / TUNED
    try:
        told = files.read_json(path)
        return {
            str(label): {str(key): str(value) for key, value in values.items()}
            for label, values in told.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{path} cannot be used: {type(error).__name__}: {error}.") from None


def _begun(folder: Path, point: Point, tuning: Tuning) -> Values:
    """What a trial that has a run directory tries: its words tell."""
    path = Path(folder) / TRIALS / f"{point.number:03d}" / runs.OVERRIDES
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    told = {line.partition("=")[0]: line.partition("=")[2] for line in lines}
    return {key: told[key] for key in tuning.keys if key in told}
