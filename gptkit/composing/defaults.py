"""The defaults lists of YAML files, read before Hydra reads them: every choice in them must be there.

What is misspelt is told with its file and line. The list is then mended, by the nearest name or by
leaving the entry out, so that the rest of the config can be composed and checked in the same answer.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gptkit import registry
from gptkit.composing.plain import Place, at, leaves, steps, without
from gptkit.composing.tree import OVERLAYS, ConfFile, Tree
from gptkit.errors import ConfigError, Problem, nearest
from gptkit.schema import normal_part, options_of
from gptkit.settings import RunSettings

SELF = "_self_"
REFERENCE = re.compile(
    r"\$\{\.*[A-Za-z_]\w*(?:\.\w+|\[\w+\])*\}"
)  # ${model.dropout}: another key, and no more


@dataclass(frozen=True)
class Entry:
    """One line of a defaults list.

    Attributes:
        group: in full, such as `model/position`.
        options: the options that it chooses.
        word: the key as written, keywords and all; None where the line is a name alone.
        override: it changes a choice that another file made.
        optional: the option may be missing.
        line: its place in the list, from 0.
        value: what it stands for, as written.
    """

    group: str
    options: tuple[str, ...]
    word: str | None
    override: bool
    optional: bool
    line: int
    value: Any

    @property
    def builds_on(self) -> bool:
        """It takes up another file of its own group, and chooses nothing."""
        return self.word is None


@dataclass
class Survey:
    """What the files that a config may be composed of choose, and what is wrong there.

    Attributes:
        tree: all YAML.
        problems: each with its file and line.
        declared: the groups that some file chooses from.
        mended: the defaults list to use in place of a file's own, by the file's name.
        lost: keys whose part could not be told; what is said about them is no further news.
        guessed: keys whose part is what a misspelt one may have been meant to be.
    """

    tree: Tree
    problems: list[Problem] = field(default_factory=list)
    declared: set[str] = field(default_factory=set)
    mended: dict[str, list[Any]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    guessed: set[str] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    def read(self, file: ConfFile) -> None:
        """Look at a file and at all that its defaults lead to."""
        if file.name in self._seen:
            return
        self._seen.add(file.name)
        try:
            content = file.content
        except ConfigError as error:
            self.problems += error.problems
            self.lost.add(file.package if not file.group.startswith(OVERLAYS) else "")
            file.content = {}
            return
        content = self._without_choices(file, self._without_code(file, content))
        file.content = content = _normal(file, content)
        self._check_preset(file)
        if "defaults" not in content:
            return
        if not isinstance(content["defaults"], list):
            self._tell(file, 0, "defaults", "expected a list of lines such as '- override /model: gpt2'.", "")
            self.mended[file.name] = []
            return
        self.mended[file.name] = [kept for kept in self._mend(file, content["defaults"]) if kept is not None]

    def options_of(self, slot: registry.Slot, name: str) -> dict[str, Any]:
        """What the YAML of a part says of its options."""
        file = self.tree.find(slot.group, name)
        if file is None:
            return {}
        self.read(file)
        content = {key: value for key, value in file.content.items() if key != "defaults"}
        return (content.get(name) or {}) if slot.many else content

    def _without_code(self, file: ConfFile, content: dict[str, Any]) -> dict[str, Any]:
        """What the file says, without values that ask for more than another key's value."""
        values = {key: value for key, value in content.items() if key != "defaults"}
        bad = [
            key for key, leaf in leaves(values) if isinstance(leaf, str) and "${" in REFERENCE.sub("", leaf)
        ]
        places = [tuple(steps(key)) for key in bad]
        for key, place in zip(bad, places, strict=True):
            full = f"{file.package}.{key}" if file.package else key
            self.lost.add(full)
            told = "refers to more than another key."
            hint = f"Write ${{some.key}} or the value; a variable goes on the command line. [{file.where(*place)}]"
            self.problems.append(Problem(full, told, hint, unsafe=True))
        return without(content, places)

    def _without_choices(self, file: ConfFile, content: dict[str, Any]) -> dict[str, Any]:
        """What the file says, without a group's options that stand where its values belong: `model: gpt2`."""
        kept = dict(content)
        for key, value in content.items() if not file.package else ():
            found = [key] if key in self.tree.files else self.tree.short_names().get(key, [])
            options: list[Any] = value if isinstance(value, list) and value else [value]
            if key in registry.SLOTS or key in options_of(RunSettings) or len(found) != 1:
                continue
            if all(isinstance(option, str) for option in options):
                del kept[key]
                self.lost.add(key)
                strange = [option for option in options if not self.tree.find(found[0], option)]
                near = "".join(f" {self.tree.no_option(found[0], option)}" for option in strange)
                hint = f"Write {self._line(found[0], options)} below 'defaults:'.{near} [{file.where(key)}]"
                self.problems.append(Problem(key, "a group's options are chosen in the defaults list.", hint))
        return kept

    def _line(self, group: str, options: Sequence[str]) -> str:
        """The line of a defaults list that chooses options, or those that they may have been meant to be."""
        near = [
            option if self.tree.find(group, option) else nearest(option, self.tree.options(group)) or "…"
            for option in options
        ]
        if group in OVERLAYS:  # a recipe is built upon; what it says may be overridden below
            return f"'- /{group}/{near[0]}'"
        return f"'- override /{group}: {near[0] if len(near) == 1 else '[' + ', '.join(near) + ']'}'"

    def _check_preset(self, file: ConfFile) -> None:
        """Tell of a model's preset that leaves slots open: they could not be chosen on a command line."""
        if file.group == "model" and not file.option.startswith("_"):
            slots = [slot.group for slot in registry.SLOTS.values() if slot.name.startswith("model.")]
            made = chosen(file, self.tree)
            gaps = [slot.rsplit("/")[-1] for slot in slots if made.get(slot) is None]
            if gaps:
                hint = f"Begin its defaults list with '- _slots'. [{file.where('defaults')}]"
                self.problems.append(Problem(file.name, f"chooses no {', '.join(gaps)}.", hint))
                self.lost.add("model")

    def _mend(self, file: ConfFile, defaults: list[Any]) -> Iterator[Any]:
        for line, raw in enumerate(defaults):
            if raw == SELF:
                yield raw
                continue
            entry = read_entry(file, line, raw)
            if entry is None or "=" in _shown(raw):
                line_to_write = self._meant_line(raw) or "Write '- group: option'."
                self._tell(file, line, "defaults", f"{_shown(raw)} is no choice.", line_to_write)
                continue
            yield self._checked(file, entry, raw)

    def _checked(self, file: ConfFile, entry: Entry, raw: Any) -> Any:
        """The entry to use: as it stands, mended, or None."""
        if "@" in (entry.word or "") or any("$" in o or "@" in o for o in entry.options):
            self._tell(file, entry.line, "defaults", f"{_shown(raw)}: '@' and '$' have no meaning here.", "")
            return None
        self.declared.add(entry.group)
        if entry.group not in self.tree.files:
            meant, told = self._meant_group(file, entry)
            hint = f"Write {self._line(meant, entry.options)}." if meant else self.tree.no_group(entry.group)
            self._tell(file, entry.line, (entry.word or entry.group).split()[-1].strip("/"), told, hint)
            if not meant or meant in OVERLAYS:
                return None
            entry = replace(entry, group=meant, word=f"override /{meant}", override=True)
            self.declared.add(meant)
            raw = {entry.word: entry.value}
        if file.group in OVERLAYS and not entry.override and not entry.builds_on:
            line = f"Write {self._line(entry.group, entry.options)}."
            self._tell(file, entry.line, entry.group, "is chosen already.", line)
            if entry.group in OVERLAYS:
                return None
            entry = replace(entry, word=f"override /{entry.group}")
            raw = {entry.word: entry.value}
        options = []
        for option in entry.options:
            found = self.tree.find(entry.group, option)
            if found is None and entry.optional:
                return None
            meant = self._meant_line(raw) if found is None and self._is_bare(file, entry) else None
            if meant:
                self._tell(file, entry.line, "defaults", f"{_shown(raw)} is no choice.", meant)
                continue
            if found is None:
                hint = self.tree.no_option(entry.group, option)
                self._tell(file, entry.line, f"{entry.group}={option}", "no such option.", hint)
                option = nearest(option, self.tree.files[entry.group]) or ""
                found = self.tree.find(entry.group, option)
                self.guessed.add(entry.group.replace("/", "."))
            if found is None:
                self.lost.add(entry.group.replace("/", "."))
                continue
            options.append(option)
            self.read(found)
        return _written(raw, entry, options)

    def _meant_group(self, file: ConfFile, entry: Entry) -> tuple[str | None, str]:
        """Which group a path that is none was meant to be, and what is wrong with it."""
        if entry.builds_on:
            return None, "no such group."
        tail = next((g for g in self.tree.groups() if entry.group.endswith(f"/{g}")), None)
        if tail:
            return tail, "a group of another folder begins with a slash."
        alike = self.tree.short_names().get(entry.group.rsplit("/", 1)[-1], [])
        typed = entry.group.removeprefix(f"{file.group}/" if file.group in OVERLAYS else "")
        return alike[0] if alike else self.tree.near_group(typed), "no such group."

    def _is_bare(self, file: ConfFile, entry: Entry) -> bool:
        """Whether a recipe's line is one word, such as `gpt2`, that is near no recipe beside it."""
        word = entry.options[0]
        return (
            entry.builds_on
            and entry.group == file.group
            and file.group in OVERLAYS
            and nearest(word, self.tree.options(entry.group)) is None
        )

    def _meant_line(self, raw: Any) -> str | None:
        """What to write in place of `model=gpt2`, `model` or `gpt2`; None for what names neither."""
        word, _, option = (raw if isinstance(raw, str) else "").partition("=")
        if not word:
            return None
        groups = [word] if word in self.tree.files else self.tree.short_names().get(word, [])
        if groups:
            offered = "" if option else f" {self.tree.no_option(groups[0], '…')}"
            return f"Write {self._line(groups[0], [option or '…'])}.{offered}"
        holders = [group for group in self.tree.groups() if word in self.tree.options(group)]
        if len(holders) > 1:
            return f"Write '- override /…: {word}' with one of {', '.join(holders)}."
        return f"Write {self._line(holders[0], [word])}." if holders else None

    def _tell(self, file: ConfFile, line: int, key: str, message: str, hint: str) -> None:
        where = file.where("defaults", str(line))
        self.problems.append(Problem(key, message, f"{hint} [{where}]".strip()))


def read_entry(file: ConfFile, line: int, raw: Any) -> Entry | None:
    """What a line of a file's defaults list means, or None if it means nothing."""
    if isinstance(raw, str):
        path = _full(file, raw)
        group, _, option = path.rpartition("/")
        return Entry(group, (option,), None, False, False, line, raw)
    if not isinstance(raw, dict) or len(raw) != 1:
        return None
    [(word, value)] = raw.items()
    *keywords, group = str(word).split() or [""]
    if set(keywords) - {"override", "optional"}:
        return None
    options = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(option, str) for option in options):
        return None
    return Entry(
        _full(file, group),
        tuple(options),
        str(word),
        "override" in keywords,
        "optional" in keywords,
        line,
        value,
    )


def chosen(file: ConfFile, tree: Tree) -> dict[str, Any]:
    """What a file and those that it builds on choose, by group: a later choice over an earlier one."""
    found: dict[str, Any] = {}
    defaults = file.content.get("defaults", [])
    for line, raw in enumerate(defaults if isinstance(defaults, list) else []):
        entry = None if raw == SELF else read_entry(file, line, raw)
        if entry is None:
            continue
        if entry.builds_on:
            base = tree.find(entry.group, entry.options[0])
            if base is not None and base is not file:
                found.update(chosen(base, tree))
        else:
            found[entry.group] = entry.value
    return found


def parts_in(file: ConfFile) -> Iterator[tuple[registry.Slot, Place, Any]]:
    """Each slot that a file sets values of, beside the one that it is an option of: (slot, place, value)."""
    prefix = file.package.split(".") if file.package else []
    for slot in registry.SLOTS.values():
        full = slot.name.split(".")
        if slot.group != file.group and full[: len(prefix)] == prefix and len(full) > len(prefix):
            place = tuple(full[len(prefix) :])
            node = at(file.content, ".".join(place))
            if node is not None:
                yield slot, place, node


def _normal(file: ConfFile, content: dict[str, Any]) -> dict[str, Any]:
    """What the file says, with each part in one form, so that files can be laid over one another."""
    file.content = result = copy.deepcopy(content)
    for slot, place, node in list(parts_in(file)):
        with contextlib.suppress(TypeError, ValueError, KeyError):  # the schema will say what is wrong
            holder = at(result, ".".join(place[:-1])) if place[:-1] else result
            holder[place[-1]] = normal_part(slot, node)
    return result


def _full(file: ConfFile, path: str) -> str:
    """A path in full: those without a slash in front stand below the file's own group."""
    if path.startswith("/"):
        return path[1:]
    return f"{file.group}/{path}" if file.group else path


def _written(raw: Any, entry: Entry, options: Iterable[str]) -> Any:
    """The entry with other options."""
    kept = list(options)
    if kept == list(entry.options):
        return raw
    if entry.builds_on:
        return f"/{entry.group}/{kept[0]}" if kept else None
    if isinstance(entry.value, list):
        return {entry.word: kept}
    return {entry.word: kept[0]} if kept else None


def _shown(raw: Any) -> str:
    return repr(raw) if not isinstance(raw, dict) else ", ".join(f"'{k}: {v}'" for k, v in raw.items())
