"""Which YAML there is to choose: groups of options, from the project, plugins and the user's folders.

A group is a folder, `model/position`; an option is a file in it, `rotary.yaml`, or a registered part
that has no file and gets one from its signature. A name that begins with `_` is there for other files
to build on and is not offered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gptkit import registry
from gptkit.composing import yaml_file
from gptkit.composing.plain import Place
from gptkit.composing.yaml_file import YamlError
from gptkit.errors import ConfigError, GptkitError, Problem, nearest

OVERLAYS = ("experiment", "debug", "config")  # what they hold stands at the top of a config
MISSING = "???"


@dataclass
class ConfFile:
    """One option of a group.

    Attributes:
        group: such as `model/position`; empty for `train.yaml` and its like.
        option: the file's name without `.yaml`.
        owner: who brings it: `gptkit`, a plugin's package, or `you`.
        path: where it lies; None where it is made from a signature.
        made: what it says, where there is no file.
        places: where a line of its defaults list really stands, if not in a list.
    """

    group: str
    option: str
    owner: str
    path: Path | None = None
    made: dict[str, Any] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.group}/{self.option}" if self.group else self.option

    @cached_property
    def content(self) -> dict[str, Any]:
        """What it says, its defaults list among it.

        Raises:
            ConfigError: it cannot be read, is not YAML, or holds no keys; says where.
        """
        if self.path is None:
            return self.made
        try:
            self._text, content = yaml_file.read(self.path)
        except YamlError as error:
            raise ConfigError(
                [Problem(f"{shown(self.path)}:{error.line}", f"not valid YAML: {error}.")]
            ) from None
        except OSError as error:
            raise ConfigError([Problem(shown(self.path), f"cannot be read: {error.strerror}.")]) from None
        if content is not None and not isinstance(content, dict):
            raise ConfigError([Problem(f"{shown(self.path)}:1", "expected keys, such as 'seed: 1'.")])
        return content or {}

    @property
    def header(self) -> str | None:
        """Where its keys stand, if the file says so: the `_global_` of `# @package _global_`."""
        if self.path is None or not self.content:
            return "_global_" if self.group in OVERLAYS else None
        for line in self._text.splitlines():
            words = line.strip().lstrip("#").split()
            if line.strip() and not line.strip().startswith("#"):
                break
            if len(words) == 2 and words[0] == "@package":
                return words[1]
        return "_global_" if self.group in OVERLAYS else None

    @property
    def package(self) -> str:
        """The key that its own keys stand below: `model.position`, or nothing."""
        header = self.header
        if header is None:
            return self.group.replace("/", ".")
        return "" if header == "_global_" else header

    def where(self, *place: str) -> str:
        """`conf/experiment/mine.yaml:4`, the line of a key or of the nearest one above it."""
        if self.path is None:
            return self.owner
        if place[:1] == ("defaults",) and len(place) > 1:
            place = self.places.get(int(place[1]), place)
        found = yaml_file.lines(self._text) if self.content else {}
        while place and place not in found:
            place = place[:-1]
        return f"{shown(self.path)}:{found[place]}" if place else shown(self.path)


class Tree:
    """All groups and options, and what is wrong with them.

    Args:
        config_dir: a folder of the user's, laid out as `conf/`; `./conf` is looked at by itself.

    Raises:
        ConfigError: `config_dir` is no folder.
    """

    def __init__(self, config_dir: str | os.PathLike[str] | None = None) -> None:
        self.files: dict[str, dict[str, ConfFile]] = {overlay: {} for overlay in OVERLAYS}
        self.clashes: dict[str, tuple[ConfFile, ConfFile]] = {}
        self.folders = _folders(config_dir)
        for owner, folder in self.folders:
            for group, path in _yaml_in(folder):
                self.add(ConfFile(group, path.stem, owner, path))
        for slot in registry.SLOTS.values():
            known = self.files.setdefault(slot.group, {})
            for name in registry.names(slot.name):
                if name not in known:
                    known[name] = ConfFile(slot.group, name, "its signature", made=from_signature(slot, name))

    def add(self, file: ConfFile) -> None:
        """Offer one more file; a second with the same name and another text is noted as a clash."""
        first = self.files.setdefault(file.group, {}).setdefault(file.option, file)
        if first is not file and first.path and file.path and not _same(first.path, file.path):
            self.clashes.setdefault(file.name, (first, file))

    def groups(self) -> list[str]:
        """Every group that a command line can choose from."""
        return sorted(group for group in self.files if group and self.options(group))

    def options(self, group: str) -> list[str]:
        return sorted(option for option in self.files.get(group, {}) if not option.startswith("_"))

    def find(self, group: str, option: str) -> ConfFile | None:
        return self.files.get(group, {}).get(option)

    def at(self, path: str) -> ConfFile | None:
        """The file of a path such as `model/position/rotary`."""
        group, _, option = path.removesuffix(".yaml").rpartition("/")
        return self.find(group, option)

    def short_names(self) -> dict[str, list[str]]:
        """The groups that each last word may mean: `position` -> `["model/position"]`."""
        found: dict[str, list[str]] = {}
        for group in self.groups():
            found.setdefault(group.rsplit("/", 1)[-1], []).append(group)
        return found

    def no_group(self, group: str) -> str:
        """What to say of a group that is not there."""
        match = self.near_group(group)
        return f"Did you mean {match}?" if match else f"Groups: {', '.join(self.groups())}."

    def near_group(self, group: str) -> str | None:
        """The group that a path, or the last word of one, was most likely meant to be."""
        last = group.rsplit("/", 1)[-1]
        short = self.short_names()
        return nearest(group, self.groups()) or next(iter(short.get(nearest(last, short) or "", [])), None)

    def no_option(self, group: str, option: str) -> str:
        """What to say of an option that is not there."""
        match = nearest(option, self.options(group))
        elsewhere = [f"{other}={option}" for other in self.groups() if option in self.options(other)]
        hint = f"Available: {', '.join(self.options(group))}."
        if match or len(elsewhere) == 1:  # a name that many groups have, such as none, says nothing
            hint = f"Did you mean {f'{group}={match}' if match else elsewhere[0]}?"
        broken = registry.catalogue().broken.values()
        return hint + "".join(f" A plugin could not be read: {message}" for message in broken)


def conf_dir() -> Path:
    """The folder of the project's own YAML: in the installed package, or beside it in a checkout.

    Raises:
        GptkitError: it is not there.
    """
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise GptkitError("gptkit's conf/ folder is missing from this installation. Install gptkit again.")


def from_signature(slot: registry.Slot, name: str) -> dict[str, Any]:
    """What the YAML of a part would say: every option with its default.

    A part that cannot be read has none; whoever chooses it is told why by the schema.
    """
    try:
        declared = registry.find(slot.name, name).declaration.options
    except GptkitError:
        declared = ()
    options = {option.name: MISSING if option.required else option.default for option in declared}
    return {name: options} if slot.many else {"name": name, **options}


def shown(path: Path) -> str:
    """A path as a user would write it."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def _folders(config_dir: str | os.PathLike[str] | None) -> list[tuple[str, Path]]:
    """(owner, folder) of all YAML; the first owner of a name has it."""
    found = [("gptkit", conf_dir()), *registry.catalogue().conf_dirs]
    local = Path.cwd() / "conf"
    if config_dir is not None:
        own = Path(config_dir).expanduser()
        if not own.is_dir():
            raise ConfigError([Problem("--config-dir", f"{config_dir} is no folder.")])
        found.append(("you", own))
    if local.is_dir():
        found.append(("you", local))
    unique: dict[Path, str] = {}
    for owner, folder in found:
        unique.setdefault(folder.resolve(), owner)
    return [(owner, folder) for folder, owner in unique.items()]


def _yaml_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """(group, file) of every YAML file below a folder, in a fixed order."""
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__")))
        group = Path(place).relative_to(folder).as_posix()
        for name in sorted(names):
            if name.endswith(".yaml"):
                yield "" if group == "." else group, Path(place, name)


def _same(one: Path, other: Path) -> bool:
    """Whether two files say the same: a checkout beside an installed copy of it is no clash."""
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False
