"""The composed model in lines, from the tokens to their scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from gptkit.model.dry_run import kind_of
from gptkit.pictures import Line
from gptkit.view.layers import LayerKind, named
from gptkit.view.sheet import Sheet
from gptkit.view.sights import mask_name, places

_MOST_MAPS = 6


@dataclass
class Item:
    """One entry of the tree.

    Attributes:
        label: what it is for.
        name: the part that was chosen.
        words: its options and what else is to be told, faintly.
        shape: of what it returns.
        notes: lines below it.
        children: entries below it.
    """

    label: str
    name: str = ""
    words: list[str] = field(default_factory=list)
    shape: str = ""
    notes: list[str] = field(default_factory=list)
    children: list[Item] = field(default_factory=list)


def tree_lines(seen: Sheet, width: int = 80) -> list[Line]:
    """The tree, no line wider than `width`."""
    return [*_draw([Item("tokens", shape="[B, T]")], width, bare=True), *_draw(_items(seen), width)]


def heading(seen: Sheet) -> tuple[str, str]:
    """What the model is called, and its sizes."""
    shape = seen.model.shape
    sizes = [
        f"{seen.model.n_parameters():,} parameters",
        f"{shape.n_layers} layers",
        f"d_model {shape.d_model:,}",
        f"{shape.n_heads} heads of {shape.d_head}",
        f"d_ff {shape.d_ff:,}",
        f"context {shape.context_length:,}",
        f"vocabulary {shape.vocab_size:,}",
    ]
    if shape.n_kv_heads != shape.n_heads:
        sizes.insert(4, f"{shape.n_kv_heads} of keys and values")
    return seen.name, ", ".join(sizes)


def _items(seen: Sheet) -> list[Item]:
    """Everything that a token passes, in order."""
    model, section = seen.model, seen.config["model"]
    stream = f"[B, T, {model.shape.d_model:,}]"
    items = [_part("embedding", section["embedding"], model.embedding, stream)]
    acts = places(model.position)
    if "added to the tokens" in acts or not acts:
        told = _part("position", section["position"], model.position, stream)
        told.notes = [": ".join(["added to the tokens" if acts else "nothing is told", *told.notes])]
        items.append(told)
    for index, kind in enumerate(seen.kinds):
        items.append(_block(seen, index, stream) if index == 0 else _difference(seen, index, kind, stream))
    if kind_of(model.norm) == "norm" and not _absent(section["norm"]):
        items.append(_part("norm", section["norm"], model.norm, stream))
    head = _part("head", section["head"], model.head, f"[B, T, {model.shape.vocab_size:,}]")
    tied = bool(getattr(model.head, "tied", False))
    head.notes += ["reads the embedding's own table"] if tied else []
    return [*items, head]


def _absent(node: Mapping[str, Any]) -> bool:
    return node.get("name") == "none"


def _block(seen: Sheet, index: int, stream: str) -> Item:
    """A block as it is computed: its formula, then its parts in order."""
    kind, (formula, order) = seen.kinds[index], seen.formulas[index]
    block = seen.model.blocks[kind.layers[0]]
    item = Item(_which(kind), shape=stream, notes=list(formula))
    item.name, item.words = kind.parts["block"]["name"], _options(kind.parts["block"])
    children = dict(block.named_children())
    for name in order or children:
        child = children[name]
        role = kind_of(child)
        if role in kind.parts:
            item.children.append(_layer_part(seen, kind, role, child))
        elif not isinstance(child, nn.Dropout):
            item.children.append(Item(name, type(child).__name__, notes=_maps(child)))
    return item


def _which(kind: LayerKind) -> str:
    many = len(kind.layers)
    return f"blocks {named(kind.layers)} (× {many})" if many > 1 else f"block {kind.layers[0]}"


def _layer_part(seen: Sheet, kind: LayerKind, role: str, module: nn.Module) -> Item:
    item = _part(role, kind.parts[role], module)
    if role == "attention":
        shape = seen.model.shape
        item.notes.append(f"who reads whom [B, {shape.n_heads}, T, T]: {mask_name(kind.parts['mask'])}")
        acts = [words for words in places(module.position) if words != "added to the tokens"]  # type: ignore[arg-type]
        if acts or kind.parts["position"] != seen.config["model"]["position"]:
            node = kind.parts["position"]
            told = " ".join([node["name"], *_options(node)])
            item.notes.append(f"position {told}: {' and '.join(acts) or 'nothing is told'}")
    return item


def _difference(seen: Sheet, index: int, kind: LayerKind, stream: str) -> Item:
    """A kind of layers by what sets it apart from the first."""
    first = seen.kinds[0]
    item = Item(_which(kind), "as above, but", shape=stream)
    whole = _block(seen, index, stream)
    if kind.parts["block"] != first.parts["block"] or seen.formulas[index][0] != seen.formulas[0][0]:
        item.notes = whole.notes
    for role, node in kind.parts.items():
        if node == first.parts[role]:
            continue
        text = mask_name(node) if role == "mask" else " ".join([node["name"], *_options(node)])
        item.notes.append(f"{role} {text}")
    return item


def _part(label: str, node: Mapping[str, Any], module: nn.Module, shape: str = "") -> Item:
    return Item(label, node["name"], _options(node), shape, _maps(module))


def _options(node: Mapping[str, Any]) -> list[str]:
    """Options that hold something, as one writes them."""
    held = {key: value for key, value in node.items() if key != "name" and value is not None}
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in held.items()]


def _maps(module: nn.Module) -> list[str]:
    """The sizes of a part's tables and linear maps, in one line."""
    told = []
    for name, inner in module.named_modules():
        if isinstance(inner, nn.Linear):
            told.append(f"{name} {inner.in_features:,} → {inner.out_features:,}")
            continue
        for own, parameter in inner.named_parameters(recurse=False):
            if parameter.ndim > 1:
                sizes = " × ".join(f"{size:,}" for size in parameter.shape)
                told.append(f"{name}.{own} {sizes}".lstrip("."))
    more = [f"{len(told) - _MOST_MAPS} more"] if len(told) > _MOST_MAPS else []
    return [", ".join([*told[:_MOST_MAPS], *more])] if told else []


def _draw(items: list[Item], width: int, prefix: str = "", bare: bool = False) -> list[Line]:
    """Entries below one another, with branches."""
    lines: list[Line] = []
    room = max((len(item.label) for item in items if not item.children), default=0)
    for index, item in enumerate(items):
        last = index == len(items) - 1
        branch, below = ("", "") if bare else (("└─ ", "   ") if last else ("├─ ", "│  "))
        label = item.label if item.children or len(item.label) > room else item.label.ljust(room)
        lines += _entry(item, label, prefix + branch, prefix + below, width, room)
        lines += _draw(item.children, width, prefix + below)
    return lines


def _entry(item: Item, label: str, first: str, rest: str, width: int, room: int) -> Iterator[Line]:
    """One entry: its label, name and words, its shape at the right; then its notes."""
    start: Line = [(first, "dim"), (label + "  ", "")]
    used = len(first) + len(label) + 2
    line: Line = [*start, (item.name, "strong")]
    used += len(item.name)
    ending = f"  {item.shape}" if item.shape else ""
    hang = len(rest) + (3 if item.children else room + 2)
    for word in item.words:
        limit = width - (len(ending) if ending else 0)
        if used + 1 + len(word) > limit and used > hang:
            yield _ended(line, used, ending, width)
            line, used, ending = [(rest.ljust(hang), "dim")], hang - 1, ""
        line.append((f" {word}", "dim"))
        used += 1 + len(word)
    yield _ended(line, used, ending, width)
    mark = "│  " if item.children else ""
    for note in item.notes:
        for index, piece in enumerate(_wrapped(note, width - hang - 2)):
            indent = (rest + mark).ljust(hang)
            yield [(indent, "dim"), (("  " if index else "") + piece, "blue" if item.children else "dim")]


def _ended(line: Line, used: int, ending: str, width: int) -> Line:
    return [*line, (" " * max(0, width - used - len(ending)) + ending, "blue")] if ending else line


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, max(width, 20)) or [""]
