"""Whether a config can be built: every problem at once, in the user's own words.

A config is plain data: dicts, lists, text, numbers, true, false and null. What it may hold follows
from the signatures of the parts it names and from `gptkit.settings`; there is no second schema to
keep in step.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from gptkit import ranges, registry, settings
from gptkit.errors import ConfigError, GptkitError, Problem, UnknownNameError, did_you_mean, nearest
from gptkit.signature import Option, declaration_of

Config = dict[str, Any]

_MAGIC_KEY = re.compile(r"^_.*_$")
_UNSAFE: Any = object()  # stands for what is left out
_SLICE = re.compile(r"^-?\d*(:-?\d*){0,2}$")


@cache
def options_of(cls: type) -> dict[str, Option]:
    """The keys that a settings class allows, by name."""
    return {option.name: option for option in declaration_of("", "", cls).options}


SECTIONS: dict[str, type] = {
    "": settings.RunSettings,
    "model": settings.ModelSettings,
    "data": settings.DataSettings,
    "trainer": settings.TrainerSettings,
}


def check(config: Mapping[str, Any]) -> Config:
    """The normalised config, if it can be built.

    Raises:
        ConfigError: it cannot; carries every problem.
    """
    problems = validate(config)
    if problems:
        raise ConfigError(problems)
    return normalise(config)


def validate(config: Mapping[str, Any]) -> list[Problem]:
    """Every problem of a resolved config, in the order of its keys; empty if there is none.

    What no config may hold is told first, and the rest is looked at without it.
    """
    if not isinstance(config, Mapping):
        told = f"expected a config, which is a group of keys, got {show(config)}."
        return [Problem("", told, "gptkit.compose makes one.")]
    unsafe: list[Problem] = []
    safe = _safe(config, "", unsafe)
    holders = {f"{p.key.rpartition('.')[0]}.name" for p in unsafe}
    silent = {*holders, *(p.key for p in unsafe)}
    return [*unsafe, *(p for p in _problems(safe) if not unsafe or not stems_from(p, silent))]


def stems_from(problem: Problem, keys: Iterable[str]) -> bool:
    """Whether a problem is of a key, or of a list in which a key stands, that something is said of already."""
    return any(key == problem.key or key.startswith(f"{problem.key}[") for key in keys)


def _problems(config: Mapping[str, Any]) -> list[Problem]:
    problems = list(ranges.endless(config))
    known = (
        set(options_of(settings.RunSettings))
        | {name.split(".")[0] for name in registry.SLOTS}
        | set(SECTIONS)
    )
    for key, value in config.items():
        if key not in known:
            problems.append(Problem(key, "no such key.", _suggest(key, known)))
        elif key in SECTIONS:
            problems += _section(key, value)
        elif key in registry.SLOTS:
            problems += _slot(registry.SLOTS[key], key, value)
        else:
            problems += _value(key, options_of(settings.RunSettings)[key], value)
    problems += ranges.outside(config)
    return problems or list(ranges.unfit(config))


def normalise(config: Mapping[str, Any]) -> Config:
    """The same config in one form: a part is `{name: ..., options}`, many are a dict by name."""
    result: Config = {}
    for key, value in config.items():
        if key == "model":
            result[key] = _normal_model(value)
        else:
            result[key] = normal_part(registry.SLOTS[key], value) if key in registry.SLOTS else value
    return result


def _normal_model(model: Mapping[str, Any]) -> Config:
    result: Config = {}
    for key, value in model.items():
        slot = registry.SLOTS.get(f"model.{key}")
        if slot:
            result[key] = normal_part(slot, value)
        elif key == "layers":
            result[key] = {where: _normal_model(parts) for where, parts in (value or {}).items()}
        else:
            result[key] = value
    return result


def normal_part(slot: registry.Slot, value: Any) -> Any:
    """One form for the ways to write a part: `rotary`, `{name: rotary}`, and lists where many may stand."""
    if not slot.many:
        return {"name": value} if isinstance(value, str) else dict(value or {})
    if value is None:
        return {}
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        value = [value]
    if isinstance(value, Mapping):
        return {name: dict(options or {}) for name, options in value.items()}
    result = {}
    for entry in value:
        node = {"name": entry} if isinstance(entry, str) else dict(entry)
        result[node.pop("name")] = node
    return result


def part_options(slot: str, node: Mapping[str, Any]) -> Config:
    """The keyword arguments that a normalised node gives its part: all but `name` and shared keys."""
    shared = options_of(SECTIONS[slot]) if slot in SECTIONS else {}
    return {key: value for key, value in node.items() if key != "name" and key not in shared}


def _section(section: str, node: Any) -> Iterator[Problem]:
    """A settings section; `model` and `data` hold parts as well."""
    if not isinstance(node, Mapping):
        yield Problem(section, f"expected a group of keys, got {show(node)}.")
        return
    allowed = options_of(SECTIONS[section])
    if section in registry.SLOTS:
        yield from _slot(registry.SLOTS[section], section, node)
        own = {key: value for key, value in node.items() if key in allowed}
    else:
        own = node
    slots = {name.split(".", 1)[1] for name in registry.SLOTS if name.startswith(f"{section}.")}
    for key, value in own.items():
        full = f"{section}.{key}"
        if key in slots:
            yield from _slot(registry.SLOTS[full], full, value)
        elif key not in allowed:
            yield Problem(full, "no such key.", _suggest(key, set(allowed) | slots))
        elif full == "model.layers":
            yield from _layers(value or {}, slots)
        else:
            yield from _value(full, allowed[key], value)


def _layers(layers: Any, slots: set[str]) -> Iterator[Problem]:
    for where, parts in layers.items() if isinstance(layers, Mapping) else ():
        full = f"model.layers.{where}"
        if not _SLICE.match(str(where)) or not where:
            yield Problem(full, "expected a slice of layer numbers such as '0', '-1', '2:4' or '3::4'.")
        if not isinstance(parts, Mapping):
            yield Problem(full, f"expected parts, such as {{position: none}}, got {show(parts)}.")
            continue
        for key, value in parts.items():
            if key not in slots or key in {"embedding", "head", "init"}:
                per_layer = slots - {"embedding", "head", "init"}
                yield Problem(f"{full}.{key}", "no part of a layer.", _suggest(key, per_layer))
            else:
                yield from _slot(registry.SLOTS[f"model.{key}"], f"{full}.{key}", value)
    if not isinstance(layers, Mapping):
        yield Problem("model.layers", f"expected slices of layers with their parts, got {show(layers)}.")


def _slot(slot: registry.Slot, key: str, value: Any) -> Iterator[Problem]:
    """A part, or several, standing at `key`."""
    try:
        node = normal_part(slot, value)
    except (TypeError, ValueError, KeyError):
        yield Problem(
            key, f"expected {'parts by name' if slot.many else 'a part with a name'}, got {show(value)}."
        )
        return
    if slot.many:
        for name, options in node.items():
            yield from _part(slot, f"{key}.{name}", name, options)
        return
    name = node.get("name")
    if not isinstance(name, str):
        offered = ", ".join(registry.names(slot.name))
        yield Problem(
            f"{key}.name", f"expected the name of a part, got {show(name)}.", f"Available: {offered}."
        )
        return
    yield from _part(slot, key, name, {k: v for k, v in node.items() if k != "name"})


def _part(slot: registry.Slot, key: str, name: str, options: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        declaration = registry.find(slot.name, name).declaration
    except UnknownNameError:
        available = registry.names(slot.name)
        hint = f"{did_you_mean(name, available)} Available: {', '.join(available)}.".strip()
        broken = "".join(f" A plugin could not be read: {m}" for m in registry.catalogue().broken.values())
        yield Problem(key, f"there is no {slot.name} named {name!r}.", hint + broken)
        return
    except GptkitError as error:
        yield Problem(key, str(error).replace(f"{slot.name}={name}", repr(name), 1))  # the key stands before
        return
    shared = set(options_of(SECTIONS[slot.name])) if slot.name in SECTIONS else set()
    allowed = {option.name: option for option in declaration.options}
    for option, value in options.items():
        if option in allowed:
            wrong = list(_value(f"{key}.{option}", allowed[option], value))
            within = option == "of" and isinstance(value, Mapping) and not wrong
            yield from _within(slot, f"{key}.of", value) if within else wrong
        elif option not in shared:
            takes = ", ".join([*allowed, *sorted(shared)]) or "no options"
            meant = did_you_mean(option, [*allowed, *shared])
            hint = f"{meant} It takes: {takes}." if meant else _left_over(slot, name, option, takes)
            yield Problem(f"{key}.{option}", f"{name!r} takes no option {option!r}.", hint)
    for option in declaration.options:
        if option.required and option.name not in options:
            wanted = (option.help or option.annotation).rstrip(".")
            yield Problem(f"{key}.{option.name}", f"{name!r} needs it: {wanted}.")


def _within(slot: registry.Slot, key: str, value: Mapping[str, Any]) -> Iterator[Problem]:
    """A part, or several, of the same slot within a part."""
    if not value:
        yield Problem(key, f"names no {slot.name}.", f"Available: {', '.join(registry.names(slot.name))}.")
    else:
        yield from _slot(slot, key, value)


def _left_over(slot: registry.Slot, name: str, option: str, takes: str) -> str:
    """A hint for an option that another part of the slot takes: a choice merged over another."""
    owners: list[str] = []
    for other in registry.names(slot.name):
        try:
            part = registry.find(slot.name, other)
            if other != name and part.declaration.option(option):
                owners.insert(0 if part.origin.kind == "core" else len(owners), other)
        except GptkitError:
            continue
    if not owners:
        return f"It takes: {takes}."
    told = ", ".join(map(repr, owners[:3])) + ", …" * (len(owners) > 3)
    choose = "choose that with" if len(owners) == 1 else "choose one of them, such as"
    return (
        f"It is an option of {told}: {choose} {slot.group}={owners[0]}, or leave {option!r} out. "
        f"{name!r} takes: {takes}."
    )


def _value(key: str, option: Option, value: Any) -> Iterator[Problem]:
    if not fits(option.type, value):
        yield Problem(key, f"expected {expected(option.type)}, got {show(value)}.", option.help)


def fits(kind: Any, value: Any) -> bool:
    """Whether plain data `value` has the type `kind`; an int is a float, a bool is not an int."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(part, value) for part in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin is list:
        return isinstance(value, list) and all(fits(arguments[0], entry) for entry in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(
            fits(arguments[0], k) and fits(arguments[1], v) for k, v in value.items()
        )
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    types.NoneType: "null",
}


def expected(kind: Any) -> str:
    """A type in words: `a whole number or null`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(expected(part) for part in arguments)
    if origin is Literal:
        choices = [str(choice) for choice in arguments]
        return "one of " + ", ".join(choices) if len(choices) > 1 else repr(choices[0])
    if kind is list:
        return "a list"
    if origin is list:
        return "a list of " + " or ".join(_plural(part) for part in arguments)
    if origin is dict or kind is dict:
        return "a group of keys"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def _plural(kind: Any) -> str:
    plural = {int: "whole numbers", float: "numbers", bool: "true or false values", str: "texts"}
    return plural.get(kind, f"entries that are {expected(kind)}")


def show(value: Any) -> str:
    """A value in words: `the text 'abc'`, `the number 0.5`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, list):
        return f"a list ({value!r})"
    return "a group of keys" if isinstance(value, Mapping) else f"a thing of the kind {type(value).__name__}"


def _suggest(key: str, known: Iterable[str]) -> str:
    known = set(known)
    match = nearest(key, known)
    return f"Did you mean {match!r}?" if match else f"Known keys: {', '.join(sorted(k for k in known if k))}."


def _safe(value: Any, key: str, problems: list[Problem]) -> Any:
    """A value without what no config may hold, whoever wrote it: import machinery, interpolations, live objects.

    A list that holds such a thing is left out as a whole: its other entries would stand in other places.
    """
    if isinstance(value, Mapping):
        kept: Config = {}
        for name, entry in value.items():
            full = f"{key}.{name}" if key else str(name)
            if isinstance(name, str) and not _MAGIC_KEY.match(name):
                safe = _safe(entry, full, problems)
                kept.update({} if safe is _UNSAFE else {name: safe})
            else:
                problems.append(_bad_key(full, name))
        return kept
    if isinstance(value, list):
        entries = [_safe(entry, f"{key}[{index}]", problems) for index, entry in enumerate(value)]
        return _UNSAFE if any(entry is _UNSAFE for entry in entries) else entries
    if isinstance(value, str) and "${" in value:
        told = f"an unresolved interpolation: {value!r}."
        problems.append(Problem(key, told, "A saved config holds plain values.", unsafe=True))
        return _UNSAFE
    if value is not None and not isinstance(value, (bool, int, float, str)):
        problems.append(Problem(key, f"expected plain data, got {type(value).__name__}.", unsafe=True))
        return _UNSAFE
    return value


def _bad_key(full: str, name: Any) -> Problem:
    if not isinstance(name, str):
        return Problem(full, "keys are text.", unsafe=True)
    told = "a config names parts, it never names code."
    hint = "Choose a registered part with 'name'; write a plugin for a new one."
    return Problem(full, told, hint, unsafe=True)
