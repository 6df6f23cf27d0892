"""Every part there is, with its formula, its options, a picture, and the presets that are made of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gptkit import registry
from gptkit.environment import parts_of
from gptkit.errors import GptkitError
from gptkit.pictures import Figure, document
from gptkit.registry import Component
from gptkit.schema import expected

_SIZES = {"context_length": 48, "d_model": 64, "n_layers": 4, "n_heads": 8, "d_ff": 128, "vocab_size": 64}


@dataclass(frozen=True)
class Row:
    """One option of a part.

    Attributes:
        name, type, default: as YAML has it; `must be given` where there is no default.
        help: what it means.
    """

    name: str
    type: str
    default: str
    help: str


@dataclass(frozen=True)
class Entry:
    """One part of the gallery.

    Attributes:
        slot, name: what it is called.
        summary: its first line.
        text: the rest of its docstring, in paragraphs; formulas stand as they are written.
        origin: `core`, or the package that brings it.
        options: its options.
        command: what chooses it.
        presets: the models that are made of it.
        picture: a whole SVG file, or nothing.
    """

    slot: str
    name: str
    summary: str
    text: tuple[str, ...]
    origin: str
    options: tuple[Row, ...]
    command: str
    presets: tuple[str, ...] = ()
    picture: str = ""


@dataclass
class Gallery:
    """All entries, slot by slot.

    Attributes:
        entries: by slot, in the order of the registry.
        broken: parts whose source cannot be read, and why.
    """

    entries: dict[str, list[Entry]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def gallery(*, pictures: bool = True) -> Gallery:
    """The gallery of everything that is registered here, a stranger's plugins among it.

    Args:
        pictures: draw them; they need torch and take some seconds.
    """
    made, users = Gallery(), presets_by_part()
    for component in registry.components(None):
        try:
            entry = _entry(component, users.get((component.slot, component.name), ()), pictures)
        except GptkitError as error:
            made.broken.append(f"{component.slot}={component.name}: {error}")
            continue
        made.entries.setdefault(component.slot, []).append(entry)
    return made


def presets_by_part() -> dict[tuple[str, str], tuple[str, ...]]:
    """Which presets of `model` are made of a part, by slot and name."""
    import gptkit
    from gptkit.composing.tree import conf_dir

    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted((conf_dir() / "model").glob("[!_]*.yaml")):
        try:
            config = gptkit.compose([f"model={path.stem}", "tokenizer=byte"])
        except GptkitError:
            continue  # a preset of one's own that lacks something tells so when it is chosen
        for slot, name in sorted({(slot, name) for _, slot, name in parts_of(config)}):
            if slot.startswith("model."):
                found.setdefault((slot, name), []).append(path.stem)
    return {part: tuple(names) for part, names in found.items()}


def _entry(component: Component, presets: tuple[str, ...], pictures: bool) -> Entry:
    declared = component.declaration
    body = re.split(r"^(?:Args|Raises|Attributes):$", declared.doc.strip(), maxsplit=1, flags=re.MULTILINE)[0]
    paragraphs = [block.strip("\n") for block in re.split(r"\n\s*\n", body) if block.strip()]
    options = tuple(
        Row(
            option.name,
            expected(option.type),
            "must be given" if option.required else _plain(option.default),
            option.help,
        )
        for option in declared.options
    )
    origin = "core" if component.origin.kind == "core" else component.origin.package
    return Entry(
        slot=component.slot, name=component.name, summary=" ".join(paragraphs[0].split()) if paragraphs else "",
        text=tuple(map(_set, paragraphs[1:])), origin=origin, options=options,
        command=_command(component),
        presets=presets, picture=_picture(component) if pictures else "",
    )  # fmt: skip


def _set(paragraph: str) -> str:
    """A paragraph as one line; one that is indented, such as a formula, as it stands."""
    lines = paragraph.splitlines()
    if all(line.startswith("    ") for line in lines):
        return "\n".join(line[4:] for line in lines)
    return " ".join(paragraph.split())


def _command(component: Component) -> str:
    """The words that choose a part, with a place for each option that must be given."""
    slot, name = registry.SLOTS[component.slot], component.name
    chosen = f"[causal,{name}]" if slot.name == "model.mask" and name != "causal" else name
    key = f"{slot.name}.{name}" if slot.many else slot.name
    needed = [f"{key}.{option.name}=…" for option in component.declaration.options if option.required]
    return " ".join([f"{slot.group}={chosen}", *needed])


def _plain(value: Any) -> str:
    """A default as YAML writes it."""
    return json.dumps(value) if not isinstance(value, str) else value


def _picture(component: Component) -> str:
    """What can be seen of a part; nothing where there is nothing to see, or it needs more to be built."""
    import torch

    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)  # for parts that draw at random
            figures = list(_figures(component))
    except Exception:  # a stranger's part that cannot be drawn still has its place
        return ""
    if not figures:
        return ""
    return document(_below(figures), f"{component.slot}={component.name}", margin=12)


def _figures(component: Component) -> Iterator[Figure]:
    from gptkit.view import callbacks, curves, first_sight, heads, influence, written

    draw = {
        "model.mask": _mask,
        "model.position": _position,
        "model.attention": influence.attention,
        "model.feed_forward": curves.feed_forward,
        "model.norm": curves.norm,
        "model.block": first_sight.block,
        "model.embedding": first_sight.embedding,
        "model.head": heads.head,
        "model.init": first_sight.init,
        "tokenizer": written.tokenizer,
        "data": written.data,
        "optimizer": first_sight.optimizer,
        "schedule": curves.schedule,
        "sampler": curves.sampler,
        "callback": callbacks.callback,
    }.get(component.slot)
    return iter(()) if draw is None else draw(component, _node(component))


def _below(figures: list[Figure]) -> Figure:
    y, drawn = 0.0, []
    for figure in figures:
        drawn.append(figure.at(0, y))
        y += figure.height + 24
    return Figure(max(figure.width for figure in figures), y - 24, "".join(drawn))


def _node(component: Component) -> dict[str, Any]:
    """The part with its defaults, or the first of its own examples where an option must be given."""
    if any(option.required for option in component.declaration.options):
        return dict(getattr(component.load(), "examples", [{}])[0])
    return {}


def _mask(component: Component, options: dict[str, Any]) -> Iterator[Figure]:
    from gptkit.view.page import mask
    from gptkit.view.sights import masks

    _, section, kinds, shape = _model({"context_length": 24, "mask": {component.name: options}})
    for sight in masks(section, kinds, shape, None)[:1]:
        yield mask(sight)


def _position(component: Component, options: dict[str, Any]) -> Iterator[Figure]:
    from gptkit.view.page import heat
    from gptkit.view.sights import positions

    config, _, kinds, shape = _model({"position": {"name": component.name, **options}})
    for sight in positions(config, kinds, shape, shape.context_length):
        if np.ptp(sight.matrix) > 0:  # a bias that queries decide is nought for none
            yield heat(sight)


def _model(parts: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    """A small model that holds a part: its config, section, layers and shape."""
    from gptkit import schema
    from gptkit.model.assemble import DEFAULTS, shape_of
    from gptkit.view.layers import layer_kinds

    config = schema.check({"model": {**_SIZES, **DEFAULTS, **parts}, "seed": 1})
    section = config["model"]
    return config, section, layer_kinds(section, section["n_layers"]), shape_of(section)
