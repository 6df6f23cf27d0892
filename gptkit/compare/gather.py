"""Read what runs left, a sweep's or any others, without torch."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gptkit import files
from gptkit import registry as registered
from gptkit import run as runs
from gptkit.compare.results import (
    JOBS,
    LOG,
    MEASURES,
    PRUNED,
    SWEEP,
    THREADS,
    TRIALS,
    Point,
    Results,
    Trained,
)
from gptkit.compare.trials import read_tuned, settled, trials_of
from gptkit.composing.plain import leaves
from gptkit.errors import GptkitError, RunError
from gptkit.train import metrics

_TAIL_LINES = 12
_MOST = 64 << 20  # bytes of one JSON file
# Nothing that is learned depends on these.
_IDLE = (
    "seed",
    "name",
    "run_root",
    "logger",
    "model.preset",
    "trainer.threads",
    "trainer.log_every",
    "trainer.eval_every",
    "trainer.checkpoint_every",
    "trainer.keep_checkpoints",
    "trainer.sample_every",
    "trainer.sample_tokens",
    "trainer.sample_prompt",
    "sampler",
)


def read_sweep(folder: Path) -> tuple[dict[str, Any], list[Point]]:
    """What `sweep.json` holds, and its points.

    Raises:
        RunError: the folder holds no sweep, or one that cannot be read.
    """
    path = Path(folder) / SWEEP
    try:
        sweep = files.read_json(path, _MOST)
        points = [
            Point(int(p["number"]), dict(p["variant"]), int(p["seed"]), list(p["overrides"]))
            for p in sweep["points"]
        ]
    except FileNotFoundError:
        raise RunError(f"{folder} holds no sweep: it has no {SWEEP}. {_nearby(Path(folder))}") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {files.cause(error)}.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} cannot be used: {type(error).__name__}: {error}.") from None
    return sweep, points


def gather(folder: Path) -> Results:
    """A sweep as it stands, finished or not.

    Raises:
        RunError: the folder holds no sweep.
    """
    folder = Path(folder)
    sweep, points = read_sweep(folder)
    tuned = read_tuned(folder)
    points = [settled(point, tuned[point.label]) if point.label in tuned else point for point in points]
    found = [read_run(folder / JOBS / f"{point.number:03d}", point) for point in points]
    trials = [read_run(folder / TRIALS / f"{p.number:03d}", p) for p in trials_of(folder, sweep, points)]
    trials = [trial for trial in trials if trial.config]
    varied, command = list(sweep.get("varied", [])), list(sweep.get("command", []))
    return Results(folder, varied, command, found, sweep, trials, tuned)


def gather_runs(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Results:
    """Runs that were made one by one; what varies is found by comparing their configs.

    Args:
        paths: run directories, folders that hold some, or patterns such as `runs/*`.

    Raises:
        RunError: there are none.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    places = list(dict.fromkeys(place for path in given for place in _places(os.fspath(path))))
    if not places:
        told = ", ".join(os.fspath(path) for path in given)
        raise RunError(f"runs={told}: there is no run directory. {_nearby(Path('runs'))}")
    configs = [_json(place / runs.CONFIG) for place in places]
    facts = [_facts(config) for config in configs]
    varied = _varying(facts, [config.get("seed", 0) for config in configs])
    found = []
    for number, (place, config, told) in enumerate(zip(places, configs, facts, strict=True)):
        variant = {key: _shown(told[key]) for key in varied if key in told} or {"run": "all"}
        point = Point(number, variant, int(config.get("seed", 0)), _lines(place / runs.OVERRIDES))
        found.append(read_run(place, point, config))
    stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    command = [f"runs={os.fspath(path)}" for path in given]
    beside = places[0].parent
    beside = beside.parent.parent if beside.name == JOBS and (beside.parent / SWEEP).is_file() else beside
    folder = beside / f"{stamp}-comparison"
    return Results(folder, varied, command, found, {"command": command, "varied": varied})


def read_run(place: Path, point: Point, config: Mapping[str, Any] | None = None) -> Trained:
    """What one run left.

    Args:
        place: its directory, which may not be there yet.
        point: what it was for.
        config: its config, where it was read already.
    """
    result = _json(place / runs.RESULT)
    status = str(result.get("status") or _status(place))
    status = "pruned" if status != "finished" and (place / PRUNED).is_file() else status
    error = ""
    if status not in ("finished", "new", "running", "pruned"):
        error = str(result.get("error") or "\n".join(last_lines(place / LOG)))
    return Trained(
        point=point,
        path=place,
        status=status,
        result=result,
        rows=metrics.read(place / "metrics.jsonl"),
        measures=_json(place / MEASURES),
        config=_json(place / runs.CONFIG) if config is None else config,
        error=error,
        threads=_threads(place),
    )


def _threads(place: Path) -> list[int]:
    told = _json(place / THREADS).get("each_start")
    return [count for count in told if isinstance(count, int)] if isinstance(told, list) else []


def last_lines(path: Path, count: int = _TAIL_LINES) -> list[str]:
    """The end of a text file; nothing if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16384))
            return [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()][
                -count:
            ]
    except OSError:
        return []


def _status(place: Path) -> str:
    """Of a run that has no result."""
    if not (place / runs.CONFIG).is_file():
        return "new"
    try:
        return runs.Run(place).status
    except GptkitError:
        return "lost"


def _places(text: str) -> list[Path]:
    """The run directories that a path or a pattern means."""
    found = [Path(path) for path in sorted(glob.glob(os.path.expanduser(text)))]
    inside = [
        entry
        for path in found
        if path.is_dir()
        and not (path / runs.CONFIG).is_file()
        and (len(found) == 1 or (path / SWEEP).is_file())
        for entry in sorted([*path.glob("*"), *path.glob(f"{JOBS}/*")])
    ]
    return [path for path in (*found, *inside) if (path / runs.CONFIG).is_file()]


def _facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What may matter of a config, by key: the name of each part, its options, and the other values.

    `model.position` gives `position`: what stands in a slot is called by the slot's short name.
    """
    found: dict[str, Any] = {}
    try:
        slots = {slot.name: slot for slot in registered.SLOTS.values()}
    except GptkitError:
        slots = {}
    for section in ("model", ""):
        held = config.get(section, {}) if section else config
        for key, value in held.items() if isinstance(held, Mapping) else ():
            full = f"{section}.{key}" if section else key
            if full in _IDLE or full == "model":
                continue
            slot = slots.get(full)
            if slot is not None and slot.many and isinstance(value, Mapping):
                found[key] = "+".join(value) or "none"
            if isinstance(value, Mapping) and isinstance(value.get("name"), str) and slot is not None:
                found[key] = value["name"]
                value = {name: entry for name, entry in value.items() if name != "name"}
            if full == "model.layers":
                found[full] = json.dumps(value, sort_keys=True)
            elif value != {} or slot is None:
                found.update(
                    (k, v)
                    for k, v in leaves(value, full)
                    if not any(k == i or k.startswith(f"{i}.") for i in _IDLE)
                )
    return found


def _varying(facts: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[str]:
    """The keys with several values, but for what follows from a seed, or from a part that was chosen."""
    values: dict[str, set[str]] = {}
    for told in facts:
        for key, value in told.items():
            values.setdefault(key, set()).add(_one(value))
    varied = [key for key, seen in values.items() if len(seen) > 1]
    by_seed = [{"seed": seed} for seed in seeds]
    paired = len(set(seeds)) < len(seeds)
    owners = {slot.name: slot.name.rsplit(".", 1)[-1] for slot in registered.SLOTS.values()}
    return [
        key
        for key in varied
        if not all(told.get(key) == seed for told, seed in zip(facts, seeds, strict=True))
        and not (paired and _follows(facts, key, by_seed, "seed"))
        and not any(
            key.startswith(f"{slot}.") and _follows(facts, key, facts, owner)
            for slot, owner in owners.items()
        )
    ]


def _follows(
    facts: Sequence[Mapping[str, Any]], key: str, causes: Sequence[Mapping[str, Any]], cause: str
) -> bool:
    """Whether a key has one value for each value of another."""
    seen: dict[str, set[str]] = {}
    for told, why in zip(facts, causes, strict=True):
        seen.setdefault(_one(why.get(cause)), set()).add(_one(told.get(key)))
    return len(seen) > 1 and all(len(values) == 1 for values in seen.values())


def _one(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none that can be read."""
    try:
        found = files.read_json(path, _MOST)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _nearby(folder: Path) -> str:
    """The sweeps that lie in a folder or beside it."""
    place = folder if folder.is_dir() else folder.parent
    found = sorted((path.parent for path in place.glob(f"*/{SWEEP}")), reverse=True)[:3]
    return (
        f"Sweeps there: {', '.join(map(str, found))}."
        if found
        else "Make one with: gptkit compare position=rotary,learned"
    )
