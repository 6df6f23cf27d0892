"""The run directory: all that a run is, in one folder.

    20260131-142501-nano-3fa1/
        config.json     every choice, resolved; written last, so a folder with it is a run
        overrides.txt   what was typed
        env.json        versions, plugins and where they came from, git, hardware, threads
        checkpoints/  tokenizer/  metrics.jsonl  samples.txt  ...
        result.json     written whole, when the run ends

A run directory may come from a stranger. It is read as data: strict JSON without links, whose names
are looked up in the registry. Importing this module needs no torch.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptkit import environment, files, registry, schema
from gptkit.errors import ConfigError, GptkitError, PluginError, Problem, RunError, did_you_mean, nearest

if TYPE_CHECKING:
    from gptkit.text.tokenizers.base import Tokenizer
    from gptkit.train.store import CheckpointStore

CONFIG, ENVIRONMENT, RESULT, OVERRIDES = "config.json", "env.json", "result.json", "overrides.txt"
CHECKPOINTS, TOKENIZER, WEIGHTS = "checkpoints", "tokenizer", "model.safetensors"
LATEST = "latest"
_TIME = "%Y%m%d-%H%M%S"
_NAME = re.compile(r"^([0-9]{8}-[0-9]{6})-")
_NO_DEFAULT = object()
_PACKAGE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


class Run:
    """A run directory, whether it is being written, finished or a stranger's.

    Args:
        path: the folder; nothing in it is read until it is asked for.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def unique_name(self) -> str:
        """A name that no other run has where many are logged: a job's begins with its sweep's."""
        path = self.path.resolve()
        return "-".join(path.parts[-3:]) if path.name.isdigit() else path.name

    def config(self) -> dict[str, Any]:
        """The run's config, checked.

        Raises:
            RunError: it is missing, or is not strict JSON in a plain file.
            ConfigError: it cannot be built here: unknown names, unsafe keys, wrong values. For a part
                that a plugin gave, says which plugin and version.
        """
        config = self.read_json(CONFIG)
        if not isinstance(config, dict):
            raise RunError(f"{self.path / CONFIG} holds {schema.show(config)}, not a config.")
        problems = self._explained(schema.validate(config))
        if problems:
            raise ConfigError([Problem("", f"{self.path / CONFIG} cannot be used here:"), *problems])
        normal = schema.normalise(config)
        for _, slot, name in environment.parts_of(normal):
            self.refuse_own(slot, name)
        return normal

    def environment(self) -> dict[str, Any]:
        """What `env.json` tells of the machine and the packages; empty if there is none.

        Raises:
            RunError: it is not strict JSON in a plain file.
        """
        told = self.read_json(ENVIRONMENT, default={})
        return told if isinstance(told, dict) else {}

    def result(self) -> dict[str, Any] | None:
        """What `result.json` holds; None before the run ended.

        Raises:
            RunError: it is not strict JSON in a plain file.
        """
        return self.read_json(RESULT, default=None)

    @property
    def status(self) -> str:
        """`running` while a process trains it, `new` before any has, else what `result.json` says
        (`finished`, `stopped`, `failed`), or `lost` where the process died without writing it."""
        if self.checkpoints.holder():
            return "running"
        result = self.result()
        if isinstance(result, dict):
            return str(result.get("status", "lost"))
        return "lost" if self.checkpoints.used else "new"

    @cached_property
    def checkpoints(self) -> CheckpointStore:
        """The run's checkpoints; keeps as many as its config says."""
        from gptkit.train.store import CheckpointStore

        try:
            keep = self.config().get("trainer", {}).get("keep_checkpoints", 2)
        except GptkitError:
            keep = 2
        return CheckpointStore(self.path / CHECKPOINTS, keep=keep)

    @property
    def loadable(self) -> bool:
        """Whether there are weights to load."""
        from gptkit.train.store import CheckpointStore

        return (self.path / WEIGHTS).is_file() or bool(CheckpointStore(self.path / CHECKPOINTS).steps())

    def read_json(self, name: str, default: Any = _NO_DEFAULT) -> Any:
        """A JSON file of the run.

        Args:
            name: its name in the folder.
            default: what a missing file stands for.

        Raises:
            RunError: it is missing and there is no default, or it is not strict JSON in a plain file.
        """
        try:
            return files.read_json(files.within(self.path, name))
        except (FileNotFoundError, NotADirectoryError):
            if default is not _NO_DEFAULT:
                return default
            raise RunError(f"{self.path} is no run directory: it has no {name}.") from None
        except ValueError as error:
            raise RunError(f"{self.path / name} cannot be used: {error}.") from None
        except OSError as error:
            raise RunError(f"{self.path / name} cannot be read: {files.cause(error)}.") from None

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run, whole or not at all; NaN and infinities become null.

        Raises:
            RunError: the disk refused; what stood there before still stands.
        """
        try:
            files.write_json(self.path / name, value)
        except OSError as error:
            raise RunError(f"{self.path / name} was not written: {files.cause(error)}.") from error

    def save_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Keep a tokenizer with the run, whole or not at all; one that is there already stays.

        Raises:
            RunError: the disk refused.
        """
        place = self.path / TOKENIZER
        if place.is_dir():
            return
        draft = self.path / f".{TOKENIZER}-{secrets.token_hex(4)}"
        try:
            draft.mkdir()
            tokenizer.save(draft)
            for entry in draft.rglob("*"):
                files.sync_directory(entry) if entry.is_dir() else files.sync_file(entry)
            files.sync_directory(draft)
            draft.rename(place)
            files.sync_directory(self.path)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if not place.is_dir():
                raise RunError(f"{place} was not written: {files.cause(error)}.") from error

    def _explained(self, problems: list[Problem]) -> list[Problem]:
        """The same problems, with the plugin's name where a part is missing that one gave."""
        if not problems:
            return problems
        try:
            parts = self.environment().get("parts", [])
        except RunError:
            parts = []
        owners = dict(_owners(parts if isinstance(parts, list) else []))
        return [_with_owner(problem, owners) for problem in problems]

    def refuse_own(self, slot: str, name: str) -> None:
        """A directory brings no code: a part that is found inside it is not used.

        Raises:
            PluginError: it is; `./plugins` is searched, and someone may stand in a stranger's directory.
            UnknownNameError: there is no such part.
        """
        origin = registry.find(slot, name).origin
        if origin.kind == "folder" and origin.location.resolve().is_relative_to(self.path.resolve()):
            raise PluginError(
                f"{slot}={name} would be taken from {origin.location}, inside the model directory itself. "
                "Loading a model runs no code that comes with it; if you trust the plugin, move it out."
            )


def create(
    config: Mapping[str, Any], overrides: Sequence[str] = (), root: str | os.PathLike[str] | None = None
) -> Run:
    """Make a new run directory, `<root>/<time>-<name>-<random>`.

    Args:
        config: resolved and plain.
        overrides: what was typed, for the record.
        root: the folder of runs; the config's `run_root` by default.

    Raises:
        ConfigError: the config cannot be built.
        RunError: the folder cannot be made.
    """
    checked = schema.check(dict(config))
    now = datetime.now(timezone.utc)
    folder = Path(root if root is not None else checked.get("run_root") or "runs")
    path = folder / f"{now.strftime(_TIME)}-{_word(checked)}-{secrets.token_hex(2)}"
    try:
        files.make_directory(folder)
        path.mkdir(exist_ok=False)
    except OSError as error:
        raise RunError(f"No run directory can be made in {folder}: {files.cause(error)}.") from error
    try:
        files.write_bytes(path / OVERRIDES, "".join(f"{line}\n" for line in overrides).encode("utf-8"))
        files.write_json(path / ENVIRONMENT, {"created": now.isoformat(), **environment.describe(checked)})
        files.write_json(path / CONFIG, checked)
        files.sync_directory(folder)
    except BaseException as error:
        shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, OSError):
            raise RunError(f"The run directory {path} cannot be written: {files.cause(error)}.") from error
        raise
    return Run(path)


def find(
    spec: str | os.PathLike[str], root: str | os.PathLike[str] = "runs", *, loadable: bool = False
) -> Run:
    """A run by its path, by a part of its name that no other has, or the latest.

    Args:
        spec: a run directory, a word, or `latest`: the one created last, by its name and record.
        root: the folder of runs.
        loadable: pass over runs that hold no weights yet, such as one that has just begun.

    Raises:
        RunError: there is none, or more than one; says what there is.
    """
    text = os.fspath(spec)
    if not text:
        told = f"The name of a run is empty: expected {LATEST}, a part of a run's name, or a path."
        raise RunError(f"{told} {_hint(text, _runs(Path(root)), root)}")
    if text != LATEST and (Path(text) / CONFIG).is_file():
        return Run(text)
    runs = _runs(Path(root))
    if text == LATEST:
        return _latest(runs, Path(root), loadable)
    matches = [run for run in runs if text in run.path.name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = _listed(matches)
        raise RunError(f"{text!r} stands for {len(matches)} runs: {listed}. Give more of the name.")
    if Path(text).is_dir():
        raise RunError(f"{text} is no run directory: it has no {CONFIG}.")
    raise RunError(f"There is no run {text!r} in {root}. {_hint(text, runs, root)}")


def _runs(root: Path) -> list[Run]:
    """The runs in a folder, the newest first; one still being created is none yet."""
    try:
        names = sorted(os.listdir(root), reverse=True)
    except OSError:
        return []
    return [Run(root / name) for name in names if (root / name / CONFIG).is_file()]


def _latest(runs: list[Run], root: Path, loadable: bool) -> Run:
    ordered = sorted(runs, key=lambda run: (_second(run), run.path.name), reverse=True)
    usable = (run for run in ordered if not loadable or run.loadable)
    newest = next(usable, None)
    if newest is None:
        if runs:
            raise RunError(
                f"None of the {len(runs)} runs in {root} holds weights yet. Train one with: gptkit train"
            )
        raise RunError(_no_runs(root))
    same_second = itertools.takewhile(lambda run: _second(run) == _second(newest), usable)
    return max((newest, *same_second), key=_created)


def _second(run: Run) -> str:
    match = _NAME.match(run.path.name)
    return match[1] if match else ""


def _created(run: Run) -> tuple[str, str]:
    """When a run was made, to the microsecond: several may be made in one second."""
    try:
        return str(run.environment().get("created", "")), run.path.name
    except RunError:
        return "", run.path.name


def _word(config: Mapping[str, Any]) -> str:
    """The word in a run's name: letters, digits, dots and dashes."""
    text = str(config.get("name") or config.get("model", {}).get("preset") or "gpt")
    return re.sub(r"[^\w.-]+", "-", text).strip("-._")[:40] or "gpt"


def _listed(runs: list[Run]) -> str:
    names = [run.path.name for run in runs[:5]]
    return ", ".join(names) + (f" and {len(runs) - 5} more" if len(runs) > 5 else "")


def _hint(text: str, runs: list[Run], root: str | os.PathLike[str]) -> str:
    """Which run may be meant by a text that names none."""
    if nearest(text, [LATEST]):
        return did_you_mean(text, [LATEST])
    near = difflib.get_close_matches(text, [run.path.name for run in runs], n=3, cutoff=0.3)
    if near:
        return f"Nearest: {', '.join(near)}."
    return f"The newest: {_listed(runs)}." if runs else _no_runs(root)


def _no_runs(root: str | os.PathLike[str]) -> str:
    return f"There are no runs in {os.fspath(root)} yet. Make one with: gptkit train"


def _owners(parts: list[Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Who gave each part, as a record tells that may be a stranger's: nothing but plain names passes."""
    for part in parts:
        if isinstance(part, dict) and isinstance(part.get("slot"), str) and isinstance(part.get("name"), str):
            words = [str(part.get(key, "")) for key in ("package", "version")]
            if _PACKAGE.match(words[0]):
                yield (part["slot"], part["name"]), " ".join(filter(_PACKAGE.match, words))


def _with_owner(problem: Problem, owners: Mapping[tuple[str, str], str]) -> Problem:
    for (slot, name), package in owners.items():
        if problem.message == f"there is no {slot} named {name!r}.":
            hint = f"It needs {slot}={name}, provided by {package}; install it."
            return Problem(problem.key, problem.message, hint)
    return problem
