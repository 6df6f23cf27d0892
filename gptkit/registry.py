"""The one door through which a named part enters a model.

A part is a class under `@register("model.position", "rotary")`. The core's parts, the folders under
`plugins/` and installed packages are listed without importing any of them; a part is imported when
a config chooses it. A name is looked up and never resolved as an import path, so a config from a
stranger can choose among registered parts and do nothing else.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from gptkit.errors import PluginError, UnknownNameError, did_you_mean
from gptkit.signature import Declaration, declaration_of, read_declarations
from gptkit.slots import SLOTS as SLOTS
from gptkit.slots import Slot as Slot

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

C = TypeVar("C", bound=type)


_CORE_ROOMS = ("model", "text", "train", "generate")
_GROUP_PREFIX = "gptkit."


@dataclass(frozen=True)
class Origin:
    """Where a part comes from.

    Attributes:
        kind: `core`, `folder` (a plugin folder), `package` (installed) or `session` (this process).
        package: the distribution's name.
        version: the distribution's version.
        location: the folder that holds it.
    """

    kind: Literal["core", "folder", "package", "session"]
    package: str
    version: str
    location: Path

    def __str__(self) -> str:
        if self.kind == "core":
            return "core"
        if self.kind == "session":
            return f"this process ({self.package})"
        return f"{self.kind} {f'{self.package} {self.version}'.strip()} ({self.location})"


@dataclass(frozen=True)
class Component:
    """A part that can be chosen by name; holds its declaration, not its class."""

    slot: str
    name: str
    origin: Origin
    module: str
    attribute: str
    source: Path | None = None
    live: type | None = field(default=None, compare=False)

    @cached_property
    def declaration(self) -> Declaration:
        """Options, defaults and docstring, read without importing the part.

        Raises:
            PluginError: the source is missing or does not register this name.
        """
        if self.live is not None:
            return declaration_of(self.slot, self.name, self.live)
        if self.source is None or not self.source.is_file():
            raise PluginError(
                f"{self.slot}={self.name} of {self.origin} names {self.module}:{self.attribute}, "
                "but that module's source is not there. Reinstall the plugin."
            )
        for declaration in read_declarations(self.source):
            if (declaration.slot, declaration.name) == (self.slot, self.name):
                return declaration
        raise PluginError(
            f'{self.source}: no class under @register("{self.slot}", "{self.name}"), though {self.origin} '
            "says there is one. The decorator, the entry point and the YAML file carry the same name."
        )

    def load(self) -> type:
        """Import the part and return its class.

        Raises:
            PluginError: the import failed, or did not register the name.
        """
        if self.live is not None:
            return self.live
        if self.origin.kind == "folder" and str(self.origin.location) not in sys.path:
            sys.path.append(str(self.origin.location))
        try:
            importlib.import_module(self.module)
        except Exception as error:
            raise PluginError(
                f"{self.slot}={self.name} of {self.origin} failed to import: {type(error).__name__}: {error}"
            ) from error
        try:
            return _registered[self.slot, self.name]
        except KeyError:
            taken = getattr(sys.modules[self.module], "__file__", None)
            if self.source is not None and (taken is None or not self.source.samefile(taken)):
                raise PluginError(
                    f"{self.source}: its name clashes with the module {self.module!r} that is already there "
                    f"({taken or 'built into Python'}). Rename it."
                ) from None
            raise PluginError(
                f'{self.module}: importing it registered no "{self.slot}" part named "{self.name}".'
            ) from None


_registered: dict[tuple[str, str], type] = {}


def register(slot: str, name: str) -> Callable[[C], C]:
    """Class decorator: make a class choosable as `slot=name`.

    The positional arguments of its `__init__` come from the builder; the keyword-only ones are its
    options. Each option is annotated with plain data types and, where it may be left out, has a
    plain default. An option `of` that is a group of keys names parts of the same slot, as the slot's own
    key does, and is checked as that is.

    Args:
        slot: a slot of `SLOTS`, such as `"model.position"`.
        name: lower case; the same as the YAML file and the entry point.

    Raises:
        PluginError: the slot does not exist, the signature breaks the rules above, or another class
            already has this name.
    """

    def decorate(cls: C) -> C:
        if slot not in SLOTS:
            raise PluginError(
                f"There is no slot {slot!r}. {did_you_mean(slot, SLOTS)} Slots: {', '.join(SLOTS)}."
            )
        declaration_of(slot, name, cls)
        known = _registered.get((slot, name))
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise PluginError(
                f"{slot}={name} is claimed twice: by {known.__module__}.{known.__qualname__} and by "
                f"{cls.__module__}.{cls.__qualname__}. Rename one of them."
            )
        _registered[slot, name] = cls
        return cls

    return decorate


@dataclass
class Catalogue:
    """All that can be chosen: parts by slot and name, what broke, and where plugin YAML lies."""

    parts: dict[tuple[str, str], list[Component]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    conf_dirs: list[tuple[str, Path]] = field(default_factory=list)

    def add(self, component: Component) -> None:
        claims = self.parts.setdefault((component.slot, component.name), [])
        if not any(_is_copy(component, claim) for claim in claims):
            claims.append(component)


def _is_copy(one: Component, other: Component) -> bool:
    """Whether two claims are one plugin twice: a checkout beside an installed copy of it."""
    if one.origin.package != other.origin.package or one.module != other.module:
        return False
    if one.source is None or other.source is None or not (one.source.is_file() and other.source.is_file()):
        return False
    return one.source.read_bytes() == other.source.read_bytes()


def names(slot: str) -> list[str]:
    """The names that a slot offers, sorted; nothing is imported."""
    found = {name for s, name in catalogue().parts if s == slot}
    found |= {name for s, name in _registered if s == slot}
    return sorted(found)


def find(slot: str, name: str) -> Component:
    """The part `name` of `slot`, not yet imported.

    Raises:
        UnknownNameError: there is no such name; says the nearest and lists all.
        PluginError: two origins claim the name.
    """
    known = catalogue()
    candidates = known.parts.get((slot, name), [])
    if len(candidates) > 1:
        claims = " and ".join(str(component.origin) for component in candidates)
        raise PluginError(
            f"{slot}={name} is offered by {len(candidates)}: {claims}. Remove or rename all but one."
        )
    if candidates:
        return candidates[0]
    if (slot, name) in _registered:
        cls = _registered[slot, name]
        origin = Origin("session", cls.__module__, "", Path.cwd())
        return Component(slot, name, origin, cls.__module__, cls.__qualname__, live=cls)
    available = names(slot)
    broken = "".join(f" A plugin could not be read: {message}" for message in known.broken.values())
    raise UnknownNameError(
        f"{slot}: there is no {name!r}. {did_you_mean(name, available)} Available: {', '.join(available)}.{broken}"
    )


def load(slot: str, name: str) -> type:
    """The class registered as `slot=name`, imported now if it was not yet."""
    return find(slot, name).load()


def components(slot: str | None = None) -> list[Component]:
    """Every part, or those of one slot, in the order of `SLOTS` and then by name."""
    slots = list(SLOTS) if slot is None else [slot]
    found = catalogue()
    return [
        component
        for s in slots
        for name in names(s)
        for component in (found.parts.get((s, name)) or [find(s, name)])
    ]


def refresh() -> None:
    """Look at the plugin folders and installed packages again."""
    catalogue.cache_clear()


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """What the core, the plugin folders and the installed packages offer; imports none of them."""
    found = Catalogue()
    for component in _core_parts():
        found.add(component)
    for folder in plugin_folders():
        try:
            _read_folder(folder, found)
        except PluginError as error:
            found.broken[str(folder)] = str(error)
    _read_packages(found)
    return found


def plugin_folders() -> list[Path]:
    """Each plugin folder or file, in the order they are searched.

    The project's own come first, then `./plugins` of the working directory, or the folders that the
    environment variable `GPTKIT_PLUGINS` lists in its place (set it empty to use none).
    """
    package = Path(__file__).resolve().parent
    listed = os.environ.get("GPTKIT_PLUGINS")
    extra = [Path.cwd() / "plugins"] if listed is None else [Path(p) for p in listed.split(os.pathsep) if p]
    roots = [package / "plugins", package.parent / "plugins", *extra]
    folders: dict[Path, None] = {}
    for root in roots:
        if root.is_dir():
            for entry in sorted(root.resolve().iterdir()):
                is_package = (entry / "pyproject.toml").is_file() or (entry / "__init__.py").is_file()
                if is_package or (entry.suffix == ".py" and entry.is_file()):
                    folders[entry] = None
    return list(folders)


def _core_parts() -> Iterator[Component]:
    package = Path(__file__).resolve().parent
    origin = Origin("core", "gptkit", "", package)
    for room in _CORE_ROOMS:
        for path in sorted((package / room).rglob("*.py")):
            module = ".".join(("gptkit", *path.relative_to(package).with_suffix("").parts))
            for declared in read_declarations(path):
                yield Component(declared.slot, declared.name, origin, module, declared.class_name, path)


def _read_folder(folder: Path, found: Catalogue) -> None:
    """Add a plugin folder: a package with entry points, or a lone file with decorators."""
    if not (folder / "pyproject.toml").is_file():
        source = folder / "__init__.py" if folder.is_dir() else folder
        origin = Origin("folder", folder.stem, "", folder.parent)
        for declared in read_declarations(source):
            found.add(
                Component(declared.slot, declared.name, origin, folder.stem, declared.class_name, source)
            )
        return
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8")).get("project", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PluginError(f"{folder / 'pyproject.toml'}: not valid TOML: {error}.") from error
    origin = Origin("folder", project.get("name", folder.name), str(project.get("version", "")), folder)
    for group, entries in project.get("entry-points", {}).items():
        for name, value in entries.items():
            _add_entry(group, name, value, origin, folder, found)
    if (folder / "conf").is_dir():
        found.conf_dirs.append((origin.package, folder / "conf"))


def _read_packages(found: Catalogue) -> None:
    in_folders = {
        c.origin.package for claims in found.parts.values() for c in claims if c.origin.kind == "folder"
    }
    for distribution in importlib.metadata.distributions():
        entries = [entry for entry in distribution.entry_points if entry.group.startswith(_GROUP_PREFIX)]
        if not entries:
            continue
        package = distribution.metadata["Name"]
        location = _package_folder(entries[0].value)
        if location is None:
            found.broken[package] = (
                f"{package}: its package {entries[0].value.split(':')[0]!r} is not installed."
            )
            continue
        if package in in_folders and _same_source(package, location, found):
            continue
        origin = Origin("package", package, distribution.version, location.parent)
        for entry in entries:
            try:
                _add_entry(entry.group, entry.name, entry.value, origin, location.parent, found)
            except PluginError as error:
                found.broken[package] = str(error)
        if (location / "conf").is_dir():
            found.conf_dirs.append((package, location / "conf"))


def _package_folder(target: str) -> Path | None:
    """The folder of an entry point's top-level package, found without importing it."""
    try:
        spec = importlib.util.find_spec(target.split(":")[0].split(".")[0])
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _same_source(package: str, location: Path, found: Catalogue) -> bool:
    """Whether an installed package is only the editable install of a folder already listed."""
    return any(
        c.origin.package == package and location.is_relative_to(c.origin.location)
        for claims in found.parts.values()
        for c in claims
    )


def _add_entry(group: str, name: str, value: str, origin: Origin, root: Path, found: Catalogue) -> None:
    slot = group.removeprefix(_GROUP_PREFIX)
    if not group.startswith(_GROUP_PREFIX):
        return
    if slot not in SLOTS:
        raise PluginError(f"{origin}: there is no slot {slot!r}. {did_you_mean(slot, SLOTS)}")
    module, _, attribute = value.partition(":")
    path = root.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found.add(Component(slot, name, origin, module, attribute, source))
