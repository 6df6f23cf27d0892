"""Which of Hydra's launcher plugins does the jobs: `hydra/launcher=submitit_slurm`, and its options.

What is called comes from the installed plugin alone; options are plain data.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptkit.errors import ConfigError, Problem, UserError, did_you_mean

PACKAGES = {
    "joblib": "joblib",
    "submitit_slurm": "submitit",
    "submitit_local": "submitit",
    "ray": "ray",
}  # the extra that brings each
KEY, OPTIONS = "hydra/launcher", "hydra.launcher."
_OPTION = re.compile(r"^hydra\.launcher(\.[A-Za-z][\w-]*)+$")


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
    hydra_config(chosen, Path())
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


def hydra_config(launcher: Launcher, folder: Path) -> tuple[Any, Any]:
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
