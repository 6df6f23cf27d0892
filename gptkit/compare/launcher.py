"""Jobs on other machines or in other pools: `hydra/launcher=submitit_slurm`, through Hydra's launcher plugins.

A launcher calls a function in processes of its own. Here that function starts a job as always, from the run
directory that was made for it, and waits for its end. What a launcher cannot tell while it works goes by
files in the run directory: `job.begun` is there once a job has begun, `job.exit` holds how it ended, and
`job.stop` the signal that it is to be sent.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptkit.compare.processes import Process, Scratch
from gptkit.errors import ConfigError, Problem, UserError, did_you_mean

PACKAGES = {
    "joblib": "joblib",
    "submitit_slurm": "submitit",
    "submitit_local": "submitit",
    "ray": "ray",
}  # the extra that brings each
KEY, OPTIONS = "hydra/launcher", "hydra.launcher."
BEGUN, EXIT, STOP = "job.begun", "job.exit", "job.stop"
_POLL_SECONDS = 0.2
_OPTION = re.compile(r"^hydra\.launcher(\.[A-Za-z][\w-]*)+$")

Order = tuple[Sequence[str], str, str]  # the arguments of a job, its log, and the folder that it works in


@dataclass(frozen=True)
class Launcher:
    """A launcher that was chosen, and its options as they were typed."""

    name: str
    words: tuple[str, ...] = ()


def take(words: Sequence[str]) -> tuple[Launcher | None, list[str]]:
    """The launcher that words choose, and the other words.

    It is read from what was typed alone, never from a sweep's folder or a file of words: its options may
    hold commands, such as `setup` of submitit_slurm.

    Raises:
        ConfigError: the words choose none, or hold what is no plain value.
        UserError: it is not installed.
    """
    own = [word for word in words if word.startswith((f"{KEY}=", OPTIONS))]
    rest = [word for word in words if word not in own]
    names = [word.partition("=")[2] for word in own if word.startswith(f"{KEY}=")]
    options = [word for word in own if not word.startswith(f"{KEY}=")]
    if not own:
        return None, rest
    if not names:
        raise ConfigError([Problem(options[0], "no launcher is chosen.", f"Add {KEY}=joblib.")])
    problems = [problem for word in options for problem in _problems(word)]
    if problems:
        raise ConfigError(problems)
    chosen = Launcher(names[-1], tuple(options))
    _config(chosen, Path())
    return chosen, rest


def _problems(word: str) -> list[Problem]:
    """What is wrong with an option: only plain data under plain names may be set."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key = word.partition("=")[0]
    if not _OPTION.match(key):
        return [Problem(key, "is no option of a launcher.", "Options are words: hydra.launcher.n_jobs=4")]
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return [Problem(key, f"expected a value, got {word.partition('=')[2]!r}.")]
    if override.is_sweep_override() or not _plain(override.value()):
        return [
            Problem(key, "expected a plain value: no list of variants, no reference, no '_' before a name.")
        ]
    return []


def _plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(not str(k).startswith("_") and _plain(k) and _plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return "${" not in str(value)


class Launched:
    """Starts jobs through a launcher, those that were asked for together as one batch.

    Args:
        launcher: which.
        folder: the sweep's; what the launcher itself writes goes to `launcher/` in it.
    """

    def __init__(self, launcher: Launcher, folder: Path) -> None:
        self.launcher, self.folder = launcher, Path(folder).resolve() / "launcher"
        self._orders: list[Order] = []
        self._batch = _Batch()
        self._count = 0

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Ask for a job; it begins after `flush`. What it may use is the launcher's to say."""
        place = Path(arguments[0])
        for name in (BEGUN, EXIT, STOP):
            (place / name).unlink(missing_ok=True)
        self._orders.append((list(arguments), str(log.resolve()), os.getcwd()))
        return _Remote(place, log, self._batch)

    def flush(self) -> None:
        """Hand over all that was asked for since."""
        if self._orders:
            orders, batch, first = self._orders, self._batch, self._count
            self._orders, self._batch, self._count = [], _Batch(), self._count + len(orders)
            hydra = _config(self.launcher, self.folder)  # here, for a thread must not touch Hydra's state
            threading.Thread(target=_launch, args=(hydra, orders, first, batch), daemon=True).start()


@dataclass
class _Batch:
    """Jobs that were handed over together; `error` tells why the launcher gave up."""

    over: bool = False
    error: str = ""


class _Remote:
    """A job that a launcher starts."""

    def __init__(self, place: Path, log: Path, batch: _Batch) -> None:
        self.place, self.log, self.batch = place, log, batch
        self._withdrawn = False

    def poll(self) -> int | None:
        over = self.batch.over  # before the file is looked for
        with contextlib.suppress(OSError, ValueError):
            return int((self.place / EXIT).read_text())
        if self._withdrawn:
            return 128 + signal.SIGINT
        if not over:
            return None
        with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8") as file:
            file.write(f"{self.batch.error or 'The launcher ended without it.'}\n")
        return 1

    def send(self, number: int) -> None:
        """Leave word of a signal; a job that still waits its turn then never begins."""
        with contextlib.suppress(OSError):
            (self.place / STOP).write_text(str(number))
        self._withdrawn = not (self.place / BEGUN).exists()


def _launch(hydra: tuple[Any, Any], orders: list[Order], first: int, batch: _Batch) -> None:
    """Have the launcher do a batch, and wait for all of it."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.core.utils import setup_globals
    from hydra.types import HydraContext

    loader, config = hydra
    try:
        setup_globals()
        made = Plugins.instance().instantiate_launcher(
            config=config,
            hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks()),
            task_function=functools.partial(work, orders),
        )
        made.launch([[f"+job={number}"] for number in range(len(orders))], initial_job_idx=first)
    except Exception as error:
        batch.error = f"The launcher gave up: {type(error).__name__}: {error}"
    finally:
        batch.over = True


def work(orders: Sequence[Order], config: Any) -> int:
    """In a process of the launcher's: do one job in a process of its own; returns its exit code.

    Args:
        orders: of the batch.
        config: `job` tells which of them.
    """
    arguments, log, folder = orders[config["job"]]
    place = Path(arguments[0])
    os.chdir(folder)
    with contextlib.suppress(ValueError):  # Ctrl-C reaches the whole group; the sweep itself passes it on
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = 128 + signal.SIGINT
    (place / BEGUN).touch()
    if not (place / STOP).exists():
        process = Scratch().start(arguments, {}, Path(log))
        sent = 0
        while (found := process.poll()) is None:
            asked = _asked(place)
            if asked not in (0, sent):
                sent = asked
                process.send(asked)
            time.sleep(_POLL_SECONDS)
        code = found
    draft = place / f".{EXIT}"
    draft.write_text(str(code))
    draft.replace(place / EXIT)
    return code


def _asked(place: Path) -> int:
    """The signal that the job is to be sent; 0 for none."""
    try:
        number = int((place / STOP).read_text())
    except (OSError, ValueError):
        return 0
    return number if number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL) else 0


def _config(launcher: Launcher, folder: Path) -> tuple[Any, Any]:
    """Hydra's loader of configs, and its own config with the launcher in it.

    Raises:
        UserError: the launcher is unknown or not installed.
        ConfigError: it does not know an option.
    """
    from hydra import initialize
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    Plugins.instance()  # finds what is installed
    there = [name.removesuffix(".yaml") for name in ConfigStore.instance().list(KEY)]
    _must_be_there(launcher.name, [name for name in there if name != "basic"])
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    words = [
        f"{KEY}={launcher.name}",
        *launcher.words,
        f"hydra.sweep.dir='{quoted}'",
        "hydra.output_subdir=null",
    ]
    words += [
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
        "hydra.job.name=gptkit",
        "hydra.job.chdir=false",
    ]
    with _no_hydra(), initialize(version_base=None, config_path=None, job_name="gptkit"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        try:
            config = hydra.compose_config(
                None, words, run_mode=RunMode.MULTIRUN, from_shell=False, with_log_configuration=False
            )
        except HydraException as error:
            told = " ".join(str(error).split())
            raise ConfigError([Problem(KEY, f"{launcher.name} cannot be set up: {told}")]) from error
        loader = hydra.config_loader
    own = OmegaConf.create(ConfigStore.instance().load(f"{KEY}/{launcher.name}.yaml").node)
    if _hidden(OmegaConf.to_container(config.hydra.launcher)) != _hidden(OmegaConf.to_container(own)):
        raise ConfigError([Problem(KEY, "only the plugin itself says what is called.")])
    return loader, config


def _must_be_there(name: str, there: Sequence[str]) -> None:
    if name in there:
        return
    if name in PACKAGES:
        extra = PACKAGES[name]
        raise UserError(
            f"{KEY}={name} needs hydra-{extra}-launcher, which is not installed. "
            f"Run: pip install 'gptkit[{extra}]'"
        )
    known = [*PACKAGES, *(one for one in there if one not in PACKAGES)]
    hint = did_you_mean(name, known) or f"There are: {', '.join(known)}; without one, jobs run here."
    raise ConfigError([Problem(KEY, f"there is no launcher {name!r}.", hint)])


def _hidden(value: Any, place: str = "") -> dict[str, Any]:
    """What stands under names that begin with `_`, which say what is called."""
    found: dict[str, Any] = {}
    entries = value.items() if isinstance(value, Mapping) else ()
    entries = enumerate(value) if isinstance(value, list) else entries
    for key, entry in entries:
        if str(key).startswith("_"):
            found[f"{place}.{key}"] = entry
        found.update(_hidden(entry, f"{place}.{key}"))
    return found


@contextlib.contextmanager
def _no_hydra() -> Any:
    """Hydra keeps one state for a whole process; give it back as it was."""
    from hydra.core.singleton import Singleton

    state = Singleton.get_state()
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        Singleton.set_state(state)
