"""A config written out: values set, every key there, values in the type that their key has."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gptkit import registry
from gptkit.composing.plain import Config, merge, steps
from gptkit.composing.words import DELETE, Setting
from gptkit.errors import GptkitError, Problem
from gptkit.schema import SECTIONS, fits, normal_part, options_of
from gptkit.signature import Option


def apply(config: Config, settings: Iterable[Setting]) -> Iterator[Problem]:
    """Set and take away values in place, in order; yields what cannot be done."""
    for setting in settings:
        *above, last = steps(setting.key)
        node: Any = config
        held = ""
        for step in above:
            held = f"{held}.{step}" if held else step
            node = _below(node, step, make=setting.value is not DELETE)
        if not isinstance(node, (dict, list)):
            if setting.value is DELETE:
                yield Problem(setting.key, "is not there, so it cannot be taken away.")
            else:
                yield Problem(setting.key, f"no such key: {held} is a value and holds no keys.")
            continue
        problem = _take(node, last, setting) if setting.value is DELETE else _put(node, last, setting)
        if problem:
            yield problem


def complete(config: Config, *, everything: bool) -> None:
    """Write out in place each key that was left at its default.

    Args:
        config: with references such as `${model.dropout}` still in it.
        everything: sections and top keys that are not there at all are added as well.
    """
    if everything:
        for section in SECTIONS:
            _fill(config if not section else config.setdefault(section, {}), options_of(SECTIONS[section]))
        for slot in registry.SLOTS.values():
            holder = _holder(config, slot)
            if slot.many and isinstance(holder, dict) and holder.get(_last(slot)) is None:
                holder[_last(slot)] = {}
    for slot, node, name in list(_parts(config)):
        shared = options_of(SECTIONS[slot.name]) if slot.name in SECTIONS else {}
        _fill(node, {**shared, **_declared(slot, name)})


def fill_layers(config: Config, content_of: Callable[[registry.Slot, str], Mapping[str, Any]]) -> None:
    """Write out in place the parts of `model.layers`, each in one form.

    A part of the name that the whole model has differs from it in what is said; another starts from its
    YAML, with its references to the model's own dials.

    Args:
        config: references still in it.
        content_of: what the YAML of a part says of its options.
    """
    model = config.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("layers"), dict):
        return
    for parts in model["layers"].values():
        for key, value in parts.items() if isinstance(parts, dict) else ():
            slot = registry.SLOTS.get(f"model.{key}")
            with contextlib.suppress(TypeError, ValueError, KeyError):  # the schema will say what is wrong
                if slot is not None:
                    parts[key] = _layer_part(slot, normal_part(slot, value), model.get(key), content_of)


def _layer_part(
    slot: registry.Slot,
    node: Config,
    model_node: Any,
    content_of: Callable[[registry.Slot, str], Mapping[str, Any]],
) -> Config:
    whole = normal_part(slot, model_node)
    if slot.many:
        return {
            name: {**copy.deepcopy(whole.get(name) or content_of(slot, name)), **o}
            for name, o in node.items()
        }
    name = node.get("name")
    base = whole if whole.get("name") == name else content_of(slot, str(name))
    return {**copy.deepcopy(dict(base)), **node}


def in_order(config: Config) -> Config:
    """The same with its keys in the order in which one reads them: sizes before parts, the run first."""
    slots = [slot.name for slot in registry.SLOTS.values()]
    model = _ordered(
        config.get("model"), [*options_of(SECTIONS["model"]), *(_last(registry.SLOTS[s]) for s in slots)]
    )
    top = [
        *options_of(SECTIONS[""]),
        "model",
        "tokenizer",
        "data",
        "objective",
        "optimizer",
        "schedule",
        "trainer",
    ]
    return _ordered({**config, "model": model} if "model" in config else config, [*top, *slots])


def _ordered(node: Any, keys: Iterable[str]) -> Any:
    if not isinstance(node, dict):
        return node
    first = {key: node[key] for key in keys if key in node}
    return {**first, **node}


def in_type(config: Config) -> None:
    """Make text of numbers in place where a key takes text alone: `precision=32`, `name=2026`."""
    for section, cls in SECTIONS.items():
        node = config.get(section) if section else config
        if isinstance(node, dict):
            _texts(node, options_of(cls))
    for slot, node, name in _parts(config):
        _texts(node, _declared(slot, name))


def unchosen(config: Config) -> Iterator[Problem]:
    """The slots that hold no part."""
    for slot in registry.SLOTS.values():
        holder = _holder(config, slot)
        if not slot.many and isinstance(holder, dict) and holder.get(_last(slot)) is None:
            offered = ", ".join(registry.names(slot.name))
            yield Problem(slot.name, "nothing is chosen.", f"Choose with {slot.group}=…: {offered}.")


def without_missing(value: Any) -> Any:
    """The same without the keys whose value is still to be given (`???`)."""
    if isinstance(value, dict):
        return {key: without_missing(entry) for key, entry in value.items() if entry != "???"}
    return value


def _below(node: Any, step: str, *, make: bool) -> Any:
    if isinstance(node, list):
        return node[int(step)] if step.isdecimal() and int(step) < len(node) else None
    if not isinstance(node, dict):
        return None
    if make and node.get(step) is None:
        node[step] = {}
    return node.get(step)


def _put(node: Any, last: str, setting: Setting) -> Problem | None:
    if isinstance(node, list):
        if not last.isdecimal() or int(last) >= len(node):
            return Problem(setting.key, f"the list has {len(node)} entries, counted from 0.")
        node[int(last)] = setting.value
    elif isinstance(setting.value, dict) and isinstance(node.get(last), dict):
        merge(node[last], setting.value)
    else:
        node[last] = copy.deepcopy(setting.value)
    return None


def _take(node: Any, last: str, setting: Setting) -> Problem | None:
    if isinstance(node, dict) and last in node:
        del node[last]
        return None
    return Problem(setting.key, "is not there, so it cannot be taken away.")


def _parts(config: Config) -> Iterator[tuple[registry.Slot, Config, str]]:
    """(slot, options, name) of each part that is written as a group of keys."""
    for slot in registry.SLOTS.values():
        holder = _holder(config, slot)
        node = holder.get(_last(slot)) if isinstance(holder, dict) else None
        if node is None:
            continue
        try:
            node = normal_part(slot, node)
        except (TypeError, ValueError, KeyError):
            continue
        holder[_last(slot)] = node
        if slot.many:
            yield from ((slot, options, name) for name, options in node.items())
        elif isinstance(node.get("name"), str):
            yield slot, node, node["name"]


def _holder(config: Config, slot: registry.Slot) -> Config:
    return config.get("model", {}) if slot.name.startswith("model.") else config


def _last(slot: registry.Slot) -> str:
    return slot.name.rsplit(".", 1)[-1]


def _declared(slot: registry.Slot, name: str) -> dict[str, Option]:
    try:
        return {option.name: option for option in registry.find(slot.name, name).declaration.options}
    except GptkitError:
        return {}


def _fill(node: Any, options: Mapping[str, Option]) -> None:
    if isinstance(node, dict):
        for name, option in options.items():
            if name not in node and not option.required:
                node[name] = copy.deepcopy(option.default)


def _texts(node: Config, options: Mapping[str, Option]) -> None:
    for name, value in node.items():
        option = options.get(name)
        if option is None or type(value) not in (int, float) or fits(option.type, value):
            continue
        if fits(option.type, str(value)):
            node[name] = str(value)
