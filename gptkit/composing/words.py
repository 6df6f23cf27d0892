"""The words of a command line: `position=rotary` chooses, `model.n_heads=8` sets, `~logger` takes away.

A short name means the one group that ends so: `position` is `model/position`. Nothing is composed yet;
what can be told from the names alone is told here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptkit import registry
from gptkit.composing.plain import at
from gptkit.composing.tree import OVERLAYS, ConfFile, Tree, shown
from gptkit.errors import ConfigError, Problem, nearest
from gptkit.schema import SECTIONS, normal_part, options_of, show
from gptkit.settings import RunSettings

_WORD = re.compile(r"^(?P<sign>\+\+|\+|~)?(?P<key>[^=]*?)(?:=(?P<value>.*))?$", re.DOTALL)
_KEY = re.compile(r"^[A-Za-z_][\w.:/-]*(\[\d+\][\w.:-]*)*$")
_OPTION = re.compile(r"^[\w-]+$")
_SEVERAL = re.compile(r"^[\w-]+(\s*,\s*[\w-]+)+$")
DELETE: Any = object()

ReadValue = Callable[[str, str], Any]


class Unreadable(Exception):
    """A value that the grammar of values does not know; the message says what to write instead."""


class Unsafe(Unreadable):
    """A value that asks for more than data, such as for the time of day."""


@dataclass(frozen=True)
class Choice:
    """One or several options of a group; `more` adds to what the group holds."""

    group: str
    options: tuple[str, ...]
    many: bool = False
    more: bool = False

    def __str__(self) -> str:
        listed = f"[{','.join(self.options)}]" if self.many else "".join(self.options)
        return f"{self.group}={listed}"


@dataclass(frozen=True)
class Setting:
    """A value for a key, or `DELETE`."""

    key: str
    value: Any
    word: str


@dataclass
class Words:
    """A command line, understood.

    Attributes:
        choices: the last one of each group.
        settings: in order.
        full: every word with its short name in full, for the record.
        problems: what could not be understood.
        lost: keys whose part could not be told.
        guessed: keys whose part is what a misspelt one may have been meant to be.
    """

    choices: dict[str, Choice] = field(default_factory=dict)
    added: list[Choice] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    guessed: set[str] = field(default_factory=set)


def read_words(words: Iterable[str], tree: Tree, read_value: ReadValue) -> Words:
    """Tell choices from settings and find what each name means.

    Args:
        words: such as `["position=rotary", "model.n_heads=8"]`.
        tree: what there is to choose; `config=FILE` adds that file to it.
        read_value: makes plain data of the text after `=`; raises `Unreadable`.
    """
    reader = _Reader(tree, read_value)
    for word in listed(words):
        reader.read(word)
    return reader.found


def listed(words: Iterable[str]) -> list[str]:
    """The words as a list.

    Raises:
        ConfigError: they are none, such as one text in place of a list.
    """
    if isinstance(words, (str, bytes, Mapping)) or not isinstance(words, Iterable):
        like = words.split() if isinstance(words, str) else ["model=gpt2", "model.n_heads=8"]
        raise ConfigError(
            [Problem("overrides", f"expected a list of words, got {show(words)}.", f"Give {like}.")]
        )
    found = list(words)
    strange = [word for word in found if not isinstance(word, str)]
    hint = "Each is a text such as 'model.n_heads=8'."
    if strange:
        raise ConfigError(
            [Problem("overrides", f"expected words, got {show(word)}.", hint) for word in strange]
        )
    return found


def _unquoted(word: str, sign: str, key: str, text: str | None) -> str:
    """What to type in place of a word whose key is none, mostly for its quotes."""
    bare = key.replace('"', "").replace("'", "")
    if not _KEY.match(bare):
        return "Keys are words joined by dots, as in model.n_heads=8."
    around = (
        word[0] in "'\"" and word[0] == word[-1] and key.count(word[0]) == 1
    )  # 'seed=3', and not 'seed'='3'
    typed = f"{sign}{bare}" if text is None else f"{sign}{bare}={text}"
    return f"Leave the quotes out: {word[1:-1] if around else typed}"


class _Reader:
    def __init__(self, tree: Tree, read_value: ReadValue) -> None:
        self.tree, self.read_value, self.found = tree, read_value, Words()
        self.short = tree.short_names()

    def read(self, word: str) -> None:
        match = _WORD.match(word)
        sign, key, text = match.group("sign", "key", "value") if match else (None, "", None)
        key = key.strip()
        if word.startswith("-"):
            self._problem(word, "no such flag.", "Choices and values are written key=value.")
        elif text is None and sign != "~":
            self._problem(repr(word), "expected key=value.", self._lone(word))
        elif not _KEY.match(key):
            self._problem(repr(word), f"{key!r} is no key.", _unquoted(word, sign or "", key, text))
        elif key == "config" and text is not None:
            self._file(text)
        else:
            self._understand(word, sign or "", key, text)

    def _understand(self, word: str, sign: str, key: str, text: str | None) -> None:
        group = self._group(key)
        if group is None:
            return
        if not group:
            self._set(word, sign, key, text)
            return
        options = _options(text)
        if sign == "~":
            self._take_away(group, options)
        elif options is None and text and _SEVERAL.match(text):
            many = self._is_many(group)
            hint = (
                f"Write a list: {group}=[{text}]."
                if many
                else f"Choose one, such as {group}={text.split(',')[0]}."
            )
            self._problem(f"{group}={text}", "several are named.", hint)
            self.found.lost.add(group.replace("/", "."))
        elif options is None:
            self._set(word, sign, group.replace("/", "."), text)
        else:
            self._choose(group, options, text or "", sign)

    def _group(self, key: str) -> str | None:
        """The group that a key means; nothing where it sets a value; None where that is a mistake."""
        if key in self.tree.files:
            return key
        if "/" in key:
            self._problem(key, "no such group.", self.tree.no_group(key))
            return None
        if "." in key:
            group = key.replace(".", "/")
            return group if group in self.tree.files else ""
        if key in options_of(RunSettings) or key in SECTIONS:
            return ""
        groups = self.short.get(key, [])
        if len(groups) > 1:
            self._problem(key, "may mean several groups.", f"Say which: {', '.join(groups)}.")
            return None
        return groups[0] if groups else ""

    def _choose(self, group: str, options: Sequence[str], text: str, sign: str) -> None:
        if not options and not self._is_many(group):
            if group not in OVERLAYS:
                hint = f"Available: {', '.join(self.tree.options(group))}."
                self._problem(group, "nothing is chosen.", hint)
                self.found.lost.add(group.replace("/", "."))
            self.found.choices.pop(group, None)
            return
        kept = []
        for option in options:
            if option in self.tree.files[group]:
                kept.append(option)
                continue
            self._problem(f"{group}={option}", "no such option.", self.tree.no_option(group, option))
            match = nearest(option, self.tree.options(group))
            kept += [match] if match else []
            (self.found.guessed if match else self.found.lost).add(group.replace("/", "."))
        several = text.strip().startswith("[")
        many = (
            registry.SLOTS[group.replace("/", ".")].many
            if group.replace("/", ".") in registry.SLOTS
            else False
        )
        if several and not many and len(options) != 1:
            self._problem(
                f"{group}={text}", "one can stand here, not several.", f"Choose one: {group}={options[0]}."
            )
        choice = Choice(
            group, tuple(kept) if many else tuple(kept[:1]), many and several, bool(sign) and many
        )
        self.found.full.append(f"{sign}{group}={text.strip()}")
        if kept or not options:
            if choice.more:
                self.found.added.append(choice)
            else:
                self.found.choices[group] = choice

    def _is_many(self, group: str) -> bool:
        slot = registry.SLOTS.get(group.replace("/", "."))
        return slot is not None and slot.many

    def _take_away(self, group: str, options: Sequence[str] | None) -> None:
        key = group.replace("/", ".")
        for full in [f"{key}.{option}" for option in options] if options else [key]:
            self.found.settings.append(Setting(full, DELETE, f"~{full}"))
            self.found.full.append(f"~{full}")

    def _set(self, word: str, sign: str, key: str, text: str | None) -> None:
        value = DELETE
        if sign != "~":
            try:
                value = self.read_value(key, text or "")
            except Unreadable as error:
                told, hint = str(error).split("\n", 1)
                self.found.problems.append(Problem(key, told, hint, unsafe=isinstance(error, Unsafe)))
                self.found.lost.add(key)
                return
        slot = registry.SLOTS.get(key)
        named = isinstance(value, dict) and ((slot and slot.many) or isinstance(value.get("name"), str))
        if slot and named:
            self._choose_whole(slot, value)
        else:
            self.found.settings.append(Setting(key, value, word))
            self.found.full.append(word)

    def _choose_whole(self, slot: registry.Slot, value: dict[str, Any]) -> None:
        """`position={name: rotary, base: 500}`: a choice, and values for it."""
        node = normal_part(slot, value)
        names = list(node) if slot.many else [node.pop("name")]
        self._choose(slot.group, names, f"[{','.join(names)}]" if slot.many else names[0], "")
        for option, entry in node.items():
            full = f"{slot.name}.{option}"
            if entry != {}:
                self.found.settings.append(Setting(full, entry, full))
                self.found.full.append(f"{full}={_written(entry)}")

    def _file(self, text: str) -> None:
        """Take up a YAML file, or the `config.json` of a run, as one more thing to compose."""
        path = Path(text.strip("'\"")).expanduser()
        if path.is_dir() and (path / "config.json").is_file():
            path /= "config.json"
        if not path.is_file():
            near = nearest(
                path.name, [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
            )
            hint = f"Did you mean config={(path.parent / near).as_posix()}?" if near else ""
            self._problem(f"config={text}", "there is no such file.", hint)
            return
        file = ConfFile("config", "file", "you", path)
        with contextlib.suppress(ConfigError):  # told when the file is read again, with the others
            if "defaults" not in file.content:
                file.content = as_choices(file)
        self.tree.files["config"] = {"file": file}
        self.found.choices["config"] = Choice("config", ("file",))
        self.found.full.append(f"config={shown(path)}")

    def _lone(self, word: str) -> str:
        if Path(word).suffix in {".yaml", ".yml", ".json"}:
            return f"Did you mean config={word}?"
        group = next((group for group in self.tree.groups() if word in self.tree.options(group)), None)
        return f"Did you mean {group}={word}?" if group else ""

    def _problem(self, key: str, message: str, hint: str = "") -> None:
        self.found.problems.append(Problem(key, message, hint))


def as_choices(file: ConfFile) -> dict[str, Any]:
    """A file without a defaults list holds values alone; each part that it names becomes a choice.

    Nothing of the part that would have stood there is left then, so a whole config, such as
    `gptkit config show` prints, is taken as it is.
    """
    defaults: list[Any] = []
    for slot in registry.SLOTS.values():
        node = at(file.content, slot.name)
        try:
            part = normal_part(slot, node) if node is not None else {}
        except (TypeError, ValueError, KeyError):
            continue
        names = list(part) if slot.many else part.get("name")
        if node is not None and names is not None:
            place = tuple(slot.name.split("."))
            file.places[len(defaults)] = place if slot.many else (*place, "name")
            defaults.append({f"override /{slot.group}": names})
    return {"defaults": [*defaults, "_self_"], **file.content}


def _written(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, str):
        return '"' + value.replace('"', '\\"') + '"'
    return {None: "null", True: "true", False: "false"}.get(value, str(value))


def _options(text: str | None) -> list[str] | None:
    """The options that a value names, `a` or `[a,b]`; None where it names none."""
    text = (text or "").strip()
    if text in ("", "null", "[]"):
        return []
    listed = text[1:-1].split(",") if text.startswith("[") and text.endswith("]") else [text]
    options = [option.strip().strip("'\"") for option in listed]
    return options if all(_OPTION.match(option) for option in options) else None
