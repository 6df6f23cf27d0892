"""Values that were meant for another part than the one that is chosen.

A preset may set options of a part it chooses: `feed_forward: {name: mlp, activation: gelu_tanh}`. They
hold while that part stands there. Where a later choice puts another in its place, they fall away with
it, so that `model=gpt2 feed_forward=none` is what it says.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from gptkit import registry
from gptkit.composing.defaults import chosen, parts_in
from gptkit.composing.plain import Place
from gptkit.composing.tree import ConfFile, Tree
from gptkit.errors import Problem

Dropped = dict[str, list[Place]]


def stale(files: Sequence[ConfFile], typed: Collection[str], tree: Tree) -> tuple[Dropped, list[Problem]]:
    """What of the files must fall away, and what names a part that nobody chose.

    Args:
        files: all that a config is composed of.
        typed: the groups chosen on the command line.
        tree: all YAML.

    Returns:
        the places to leave out, by the file's name, and problems.
    """
    dropped: Dropped = {}
    problems: list[Problem] = []
    choices: dict[str, list[str]] = {}
    for file in files:
        choices.setdefault(file.group, []).append(file.option)
    for file in files:
        for slot, place, node in parts_in(file):
            if not isinstance(node, dict):
                continue
            stands = _names(slot, choices.get(slot.group), tree)
            asked = _listed(chosen(file, tree).get(slot.group))
            own = _names(slot, asked, tree)
            if slot.many:
                gone = [n for n in node if n not in stands and (n in own or slot.group in typed)]
                dropped.setdefault(file.name, []).extend((*place, name) for name in gone)
            elif node.get("name") not in [None, *stands]:
                if str(node["name"]) not in map(str, [*own, *asked]) and slot.group not in typed:
                    problems.append(_unchosen(file, slot, (*place, "name"), str(node["name"]), stands, tree))
                dropped.setdefault(file.name, []).append(place)
    return {name: places for name, places in dropped.items() if places}, problems


def _names(slot: registry.Slot, choice: Any, tree: Tree) -> list[str]:
    """The registered names that the chosen files put into a slot."""
    found: list[str] = []
    for option in _listed(choice):
        file = tree.find(slot.group, str(option))
        if file is not None:
            content = file.content
            found += list(content) if slot.many else [content.get("name", option)]
    return found


def _listed(choice: Any) -> list[Any]:
    return list(choice) if isinstance(choice, (list, tuple)) else [choice]


def _unchosen(
    file: ConfFile, slot: registry.Slot, place: Place, name: str, stands: list[str], tree: Tree
) -> Problem:
    """A name beside values, in a file that does not choose it: the part would be half one, half another."""
    where = f"[{file.where(*place)}]"
    if name not in registry.names(slot.name):
        told = f"{tree.no_option(slot.group, name)} {where}"
        return Problem(f"{slot.group}={name}", "no such option.", told)
    is_there = f"{stands[0]!r} is chosen" if stands else "nothing is chosen"
    hint = f"Choose it in the file's defaults: '- override /{slot.group}: {name}'. {where}"
    return Problem(f"{slot.name}.name", f"{name!r} is named, but {is_there}.", hint)
