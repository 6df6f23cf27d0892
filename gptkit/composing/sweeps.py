"""A word that stands for several: `position=rotary,learned`, `seed=range(1,6)`, by Hydra's grammar of sweeps."""

from __future__ import annotations

import os
import re
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from hydra.errors import HydraException

from gptkit.composing.tree import Tree
from gptkit.errors import ConfigError, Problem

_TOKEN = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\\.|.""", re.DOTALL)


def spread(word: str, *, config_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """The values that a `key=value` word stands for, as they were typed; one where it is no sweep.

    `a,b`, `choice(a,b)`, `range(1,6)` and, for a group, `glob(pattern)`. A list in brackets or a text in
    quotes is one value; what cannot be read is one value, and `gptkit.compose` tells what is wrong with it.

    Raises:
        ConfigError: an `interval()`, which has no end of values, or a `glob()` that meets no option.
    """
    key, _, text = word.partition("=")
    try:
        override = OverridesParser.create().parse_override(f"key={text}")
        if not override.is_sweep_override():
            return [text]
        if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
            return _options(key, override.value(), Tree(config_dir))
        values = list(override.sweep_string_iterator())
    except HydraException:
        if re.match(r"\s*(tag\(.*)?interval\(", text):
            told = "interval() has no end of values."
            raise ConfigError([Problem(key, told, f"List them: {key}=1,2,3.")]) from None
        return [text]
    typed = _pieces(text)
    return typed if override.value_type == ValueType.SIMPLE_CHOICE_SWEEP and _same(typed, values) else values


def _options(key: str, pattern: Any, tree: Tree) -> list[str]:
    """The options of a group that a pattern meets."""
    name = key.lstrip("+~")
    groups = [name] if name in tree.files else tree.short_names().get(name, [name.replace(".", "/")])
    found = [option for group in groups for option in pattern.filter(tree.options(group))]
    if not found:
        offered = ", ".join(option for group in groups for option in tree.options(group))
        told = f"Available: {offered}." if offered else "A pattern chooses among the options of a group."
        raise ConfigError([Problem(key, "the pattern meets no option.", told)])
    return found


def _pieces(text: str) -> list[str]:
    """A text cut at its commas, but for those in brackets, braces and quotes."""
    pieces, depth = [""], 0
    for token in _TOKEN.findall(text):
        depth += (token in "([{") - (token in ")]}")
        if token == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += token
    return [piece.strip() for piece in pieces]


def _same(typed: list[str], values: list[str]) -> bool:
    """Whether the values are those typed, and not those of `sort()` or `shuffle()` around them."""
    return len(typed) == len(values) and len(typed) > 1
