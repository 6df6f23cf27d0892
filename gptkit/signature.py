"""Read a component's options from its source, without running it.

A component is a class under `@register(slot, name)`. The keyword-only arguments of its `__init__`
are the options that YAML may set. Their annotations and defaults are plain data, so they can be
read from the syntax tree: listing, completing and checking a config imports neither torch nor a
stranger's plugin.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union

from gptkit.errors import PluginError


class _Required:
    """The default of an option that has none."""

    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()

_SCALARS: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "list": list,
    "dict": dict,
    "Any": Any,
    "None": types.NoneType,
}
_ENTRY = re.compile(r"^\s*([A-Za-z_]\w*)(?:\s*\([^)]*\))?\s*:\s*(.*)$")


@dataclass(frozen=True)
class Option:
    """One value that YAML may set on a component.

    Attributes:
        name: the keyword.
        type: the annotation as a typing object, such as `float` or `int | None`.
        annotation: the annotation as written.
        default: the default, or `REQUIRED`.
        help: what its line under `Args:` says.
    """

    name: str
    type: Any
    annotation: str
    default: Any = REQUIRED
    help: str = ""

    @property
    def required(self) -> bool:
        return self.default is REQUIRED


@dataclass(frozen=True)
class Declaration:
    """A component as its source declares it."""

    slot: str
    name: str
    class_name: str
    path: Path
    line: int
    doc: str = ""
    options: tuple[Option, ...] = field(default=())

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.doc.strip().split("\n", 1)[0].strip()

    def option(self, name: str) -> Option | None:
        return next((option for option in self.options if option.name == name), None)


def read_declarations(path: Path) -> list[Declaration]:
    """Every `@register(...)` class in a Python file, in source order.

    Raises:
        PluginError: the file is not valid Python, or an option has a default or an annotation
            that is not plain data.
    """
    source = path.read_bytes()
    if b"@register(" not in source:
        return []
    try:
        tree = ast.parse(source, filename=str(path))
    except SyntaxError as error:
        raise PluginError(f"{path}:{error.lineno}: not valid Python: {error.msg}.") from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return [
        _declaration(slot, name, node, classes, path)
        for node in classes.values()
        for slot, name in _registrations(node)
    ]


def _registrations(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for decorator in node.decorator_list:
        if not isinstance(decorator, ast.Call):
            continue
        called = decorator.func
        label = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        arguments = [a.value for a in decorator.args if isinstance(a, ast.Constant)]
        if label == "register" and len(arguments) == 2:
            yield str(arguments[0]), str(arguments[1])


def _declaration(
    slot: str, name: str, node: ast.ClassDef, classes: dict[str, ast.ClassDef], path: Path
) -> Declaration:
    where = f"{path}:{node.lineno}: {node.name}"
    doc = ast.get_docstring(node) or ""
    owner, init = _find_init(node, classes)
    options: tuple[Option, ...] = ()
    if init is not None and owner is not None:
        if init.args.kwarg is not None:
            raise PluginError(f"{where}: options must be named one by one; remove **{init.args.kwarg.arg}.")
        helps: dict[str, str] = {}
        for each in _lineage(node, classes):
            helps.update(_arguments_help(ast.get_docstring(each) or ""))
        helps.update(_arguments_help(ast.get_docstring(init) or ""))
        options = tuple(
            _option(argument, default, helps, where)
            for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
        )
    return Declaration(slot, name, node.name, path, node.lineno, doc, options)


def _lineage(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """A class and its bases in the same file, the most distant first."""
    bases = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
    return [*(each for base in reversed(bases) for each in _lineage(base, classes)), node]


def _find_init(
    node: ast.ClassDef, classes: dict[str, ast.ClassDef]
) -> tuple[ast.ClassDef | None, ast.FunctionDef | None]:
    """The `__init__` that applies: the class's own, or that of a base in the same file."""
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return node, statement
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            owner, init = _find_init(classes[base.id], classes)
            if init is not None:
                return owner, init
    return None, None


def _option(argument: ast.arg, default: ast.expr | None, helps: dict[str, str], where: str) -> Option:
    if argument.annotation is None:
        raise PluginError(f"{where}: option {argument.arg!r} has no annotation, so it cannot be checked.")
    try:
        kind = parse_type(argument.annotation)
    except ValueError as error:
        raise PluginError(f"{where}: option {argument.arg!r}: {error}") from None
    try:
        value = REQUIRED if default is None else ast.literal_eval(default)
    except ValueError:
        raise PluginError(
            f"{where}: the default of option {argument.arg!r} must be plain data (a number, text, "
            f"list, dict, True, False or None), not {ast.unparse(default)!r}."  # type: ignore[arg-type]
        ) from None
    return Option(
        argument.arg, kind, ast.unparse(argument.annotation).strip("'\""), value, helps.get(argument.arg, "")
    )


def parse_type(node: ast.expr) -> Any:
    """The typing object for an annotation made of plain data types.

    Raises:
        ValueError: the annotation is not made of int, float, bool, str, list, dict, Literal, Any,
            None and unions of these.
    """
    match node:
        case ast.Constant(value=None):
            return types.NoneType
        case ast.Constant(value=str(text)):
            return parse_type(ast.parse(text, mode="eval").body)
        case ast.Name(id=name) if name in _SCALARS:
            return _SCALARS[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[parse_type(left), parse_type(right)]  # noqa: UP007 - built at run time
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return Literal[tuple(ast.literal_eval(item) for item in items)]
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return list[parse_type(inner)]
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, value])):
            return dict[parse_type(key), parse_type(value)]
    raise ValueError(
        f"the annotation {ast.unparse(node)!r} is not plain data; use int, float, bool, str, list[...], "
        "dict[...], Literal[...], None and unions of these."
    )


def _arguments_help(doc: str) -> dict[str, str]:
    """The lines under `Args:` of a Google-style docstring, by argument."""
    lines = doc.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip() == "Args:"), None)
    if start is None:
        return {}
    helps: dict[str, str] = {}
    current, indent = None, None
    for line in lines[start + 1 :]:
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None else indent
        if depth < indent:
            break
        match = _ENTRY.match(line) if depth == indent else None
        if match:
            current = match[1]
            helps[current] = match[2].strip()
        elif current:
            helps[current] += " " + line.strip()
    return helps


def declaration_of(slot: str, name: str, cls: type) -> Declaration:
    """The same declaration read from a live class: for parts registered in a notebook or a test.

    Raises:
        PluginError: an option has no annotation, or the signature takes `**kwargs`.
    """
    where = f"{cls.__module__}.{cls.__qualname__}"
    helps: dict[str, str] = {}
    for owner in reversed(cls.__mro__[:-1]):
        helps.update(_arguments_help(inspect.cleandoc(owner.__doc__ or "")))
    helps.update(_arguments_help(inspect.cleandoc(cls.__init__.__doc__ or "")))
    options = []
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            raise PluginError(f"{where}: options must be named one by one; remove **{parameter.name}.")
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if parameter.annotation is inspect.Parameter.empty:
            raise PluginError(
                f"{where}: option {parameter.name!r} has no annotation, so it cannot be checked."
            )
        annotation = parameter.annotation
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        try:
            kind = parse_type(ast.parse(text, mode="eval").body)
        except ValueError as error:
            raise PluginError(f"{where}: option {parameter.name!r}: {error}") from None
        default = REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
        options.append(
            Option(parameter.name, kind, text.strip("'\""), default, helps.get(parameter.name, ""))
        )
    path = Path(getattr(sys.modules.get(cls.__module__), "__file__", None) or "<session>")
    return Declaration(slot, name, cls.__name__, path, 0, inspect.cleandoc(cls.__doc__ or ""), tuple(options))
