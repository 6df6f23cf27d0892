"""From a problem to what to do: the nearest key of the whole config, and the file and line it came from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gptkit.composing.plain import Place, at, leaves, steps
from gptkit.composing.tree import ConfFile, Tree
from gptkit.composing.words import Setting
from gptkit.errors import Problem, nearest
from gptkit.registry import SLOTS
from gptkit.schema import SECTIONS, options_of

UNKNOWN = "no such key."
NEEDED = re.compile(r"'\w+' needs it: ")


def explain(
    problems: Iterable[Problem],
    config: Mapping[str, Any],
    settings: Sequence[Setting],
    files: Sequence[ConfFile],
    tree: Tree,
) -> list[Problem]:
    """The same problems, each in full: one for each unknown key, what was meant, and where it stands.

    Args:
        problems: as the schema tells them.
        config: what they were found in.
        settings: the values given on the command line.
        files: what the config is composed of.
        tree: all YAML.
    """
    known = known_keys(config)
    told = (each for problem in problems for each in _in_full(problem, config, settings, known, tree))
    return list(dict.fromkeys(_with_place(problem, settings, files) for problem in told))


def known_keys(config: Mapping[str, Any]) -> list[str]:
    """Every key that a config may hold, as far as its parts are known."""
    keys = [
        f"{section}.{name}" if section else name
        for section, cls in SECTIONS.items()
        for name in options_of(cls)
    ]
    keys += [name for name in SLOTS if name not in SECTIONS]
    inside = [key for key, _ in leaves(config) if any(key.startswith(f"{slot}.") for slot in SLOTS)]
    return list(dict.fromkeys([*keys, *inside]))


def meant(key: str, known: Sequence[str], tree: Tree) -> str:
    """The key or group that a misspelt key was most likely meant to be; empty if none is near."""
    above, _, last = key.rpartition(".")
    ends, beside = _by_last_word(known), _by_last_word(k for k in known if k.rpartition(".")[0] == above)
    if last in ends:
        return ends[last]
    if not above:
        groups = {short: group for short, found in tree.short_names().items() for group in found[:1]}
        beside = {**{group: group for group in tree.groups()}, **groups, **beside}
    word = _with_word(last, beside) or ("" if above else _with_word(last, ends))
    near = word or nearest(last, beside) or ""
    if near:
        return beside.get(near) or ends[near]
    return ends.get(_with_word(last, ends) or nearest(last, ends) or "") or _nearest_path(key, known)


def _by_last_word(keys: Iterable[str]) -> dict[str, str]:
    """`{"n_heads": "model.n_heads"}`; the first of several keys that end alike."""
    found: dict[str, str] = {}
    for key in keys:
        found.setdefault(key.rsplit(".", 1)[-1], key)
    return found


def _with_word(word: str, names: Iterable[str]) -> str:
    """The first name that holds a whole word: `n_heads` for `heads`."""
    return next((name for name in names if word in name.split("_")), "")


def _nearest_path(key: str, known: Sequence[str]) -> str:
    """A key that differs in few letters as a whole."""
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.8)), "")


def _in_full(
    problem: Problem, config: Mapping[str, Any], settings: Sequence[Setting], known: Sequence[str], tree: Tree
) -> Iterator[Problem]:
    """An unknown key once for each value below it, as it was written, with what was meant."""
    if NEEDED.match(problem.message):
        yield replace(problem, hint=f"Give it: {problem.key}=…")
        return
    if problem.message != UNKNOWN:
        yield problem
        return
    typed = [s.key for s in settings if s.key == problem.key or s.key.startswith(f"{problem.key}.")]
    below = dict.fromkeys(key.split("[")[0] for key, _ in leaves(at(config, problem.key), problem.key))
    for key in typed or below:
        match = meant(key, [k for k in known if k != key], tree)
        hint = f"Did you mean {match}?" if match else problem.hint
        yield replace(problem, key=key, hint=hint)


def _with_place(problem: Problem, settings: Sequence[Setting], files: Sequence[ConfFile]) -> Problem:
    """The problem with the file and line that gave the value, where a user's file did."""
    if problem.hint.endswith("]") or any(_covers(s.key, problem.key) for s in settings):
        return problem
    for file in files:
        place = _place(problem.key, file)
        if file.owner != "gptkit" and file.path and place and _holds(file.content, place):
            return replace(problem, hint=f"{problem.hint} [{file.where(*place)}]".strip())
    return problem


def _covers(setting: str, key: str) -> bool:
    return key == setting or key.startswith((f"{setting}.", f"{setting}["))


def _place(key: str, file: ConfFile) -> Place:
    """A full key as a place in a file, if it lies below the file's package."""
    prefix = f"{file.package}." if file.package else ""
    return tuple(steps(key[len(prefix) :])) if key.startswith(prefix) else ()


def _holds(content: Any, place: Place) -> bool:
    for step in place:
        if not isinstance(content, Mapping) or step not in content:
            return False
        content = content[step]
    return True
