"""YAML as a config means it: keys are text as written, numbers are numbers, nothing is code.

Beyond YAML 1.1 as PyYAML reads it: `1e-3` is a number, `2:4` and `2026-01-31` are text, and a key that
stands twice is an error.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from gptkit.composing.plain import Place

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_OWN = {
    "tag:yaml.org,2002:int": (_INT, "-+0123456789"),
    "tag:yaml.org,2002:float": (_FLOAT, "-+.0123456789"),
}
_REPLACED = {*_OWN, "tag:yaml.org,2002:timestamp"}
_MOST_NODES = 100_000


class YamlError(Exception):
    """A text that is not YAML, or that says one thing twice.

    Attributes:
        line: where, counted from 1.
    """

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class _Loader(_Base):
    """Safe, and with the rules above."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        self.flatten_mapping(node)
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError("a key is text, not a list or a group", key_node.start_mark.line + 1)
            found[key_node.value] = self.construct_object(value_node, deep=deep)
        return found

    def construct_plain_map(self, node: Any) -> Any:
        found: dict[str, Any] = {}
        yield found
        found.update(self.construct_mapping(node))


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}
for _tag, (_pattern, _first) in _OWN.items():
    _Loader.add_implicit_resolver(_tag, _pattern, list(_first))
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_plain_map)


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what would not be read back as text."""


_Dumper.yaml_implicit_resolvers = {
    first: [
        *_Loader.yaml_implicit_resolvers.get(first, []),
        *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
    ]
    for first in {*_Loader.yaml_implicit_resolvers, *yaml.SafeDumper.yaml_implicit_resolvers}
}


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """A text of several lines on one, as it is typed on a command line."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)


_Dumper.add_representer(str, _text)


def dump(value: Any) -> str:
    """Plain data as YAML that `parse` reads back as it was; a text stands on one line, however long."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)


def read(path: Path) -> tuple[str, Any]:
    """A file's text and what it says.

    Raises:
        YamlError: it is not YAML, or not UTF-8.
        OSError: it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise YamlError(f"byte {error.start} is not UTF-8", line) from None
    return text, parse(text)


def parse(text: str) -> Any:
    """What a text says, as plain data.

    Raises:
        YamlError: it is not YAML, or a key stands twice in one place.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            return None
        if _size(node, {}) > _MOST_NODES:
            raise YamlError("its aliases unfold to more than a config can be", 1)
        loader = _Loader("")
        try:
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(error.problem or str(error), mark.line + 1 if mark else 1) from None
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split()), 1) from None
    except (RecursionError, ValueError) as error:
        raise YamlError(f"cannot be read: {error}", 1) from None


def _size(node: Any, known: dict[int, int | None]) -> int:
    """How many nodes it unfolds to; refuses a key that stands twice, as the first would be lost."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = None
        keys: set[str] = set()
        total = 1
        for entry in node.value:
            if isinstance(node, yaml.MappingNode):
                total += _key_once(entry[0], keys)
                entry = entry[1]
            total += _size(entry, known)
        known[id(node)] = total
    size = known[id(node)]
    if size is None:
        raise YamlError("it holds itself", node.start_mark.line + 1)
    return size


def _key_once(key: Any, keys: set[str]) -> int:
    if isinstance(key, yaml.ScalarNode) and key.value != "<<":
        if key.value in keys:
            raise YamlError(f"the key {key.value!r} stands here twice", key.start_mark.line + 1)
        keys.add(key.value)
    return 1


def lines(text: str) -> dict[Place, int]:
    """The line, from 1, of every key and list entry of a valid text, by its place: `("model", "d_ff")`."""
    found: dict[Place, int] = {}
    node = yaml.compose(text, Loader=_Loader)

    def visit(node: Any, place: Place) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                found[(*place, key.value)] = key.start_mark.line + 1
                visit(value, (*place, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                found[(*place, str(index))] = value.start_mark.line + 1
                visit(value, (*place, str(index)))

    if node is not None:
        visit(node, ())
    return found
