"""From a config to a GPT: each name is looked up in the registry and built from the shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from gptkit import registry
from gptkit.errors import ConfigError, Problem, UserError
from gptkit.model.gpt import GPT
from gptkit.model.init import initialise
from gptkit.model.interfaces import Attention, Block, Mask, ModelShape, PositionalEncoding
from gptkit.model.masks import AllOf, Causal, Full
from gptkit.schema import Config, check, normal_part, options_of
from gptkit.settings import ModelSettings

PER_LAYER = ("position", "mask", "attention", "norm", "feed_forward", "block")
DEFAULTS: dict[str, Any] = {
    "position": "learned",
    "mask": "causal",
    "attention": "multi_head",
    "norm": "layer",
    "feed_forward": "mlp",
    "block": "pre",
    "embedding": "token",
    "head": "language_model",
    "init": "gpt2",
}


def build(
    config: Mapping[str, Any],
    *,
    vocab_size: int | None = None,
    device: torch.device | str = "cpu",
    initialise_weights: bool = True,
) -> GPT:
    """Assemble the GPT that a config describes.

    Args:
        config: `{"model": {...}, "seed": ...}`; other sections are not looked at.
        vocab_size: the tokenizer's; needed where the config does not fix it.
        device: where the parameters are made; `meta` makes none.
        initialise_weights: draw the first weights; without it they hold whatever memory held.

    Raises:
        ConfigError: a part refuses its options or the shape; carries every such problem.
    """
    model = check({"model": {**_sizes(), **DEFAULTS, **config["model"]}})["model"]
    shape = shape_of(model, vocab_size)
    place = torch.device(device)
    drawing = [place] if place.type == "cuda" else []
    with place, torch.random.fork_rng(drawing):  # torch's modules draw first weights that nobody keeps
        try:
            init = _part("init", model["init"], shape)
            gpt = _Assembly(model, shape).gpt()
        except ConfigError as error:
            found = refused(model, shape)
            told = {problem.message for problem in found}  # there with the layers that it is of
            raise ConfigError([*found, *(p for p in error.problems if p.message not in told)]) from error
    gpt.config = dict(config)
    if initialise_weights and torch.device(device).type != "meta":
        initialise(gpt, init, int(config.get("seed", 0)))
    return gpt


def _sizes() -> Config:
    """What a config that says nothing of its sizes means."""
    return {name: option.default for name, option in options_of(ModelSettings).items()}


def shape_of(model: Mapping[str, Any], vocab_size: int | None = None) -> ModelShape:
    """The sizes of a model section, with what follows from others filled in.

    Raises:
        ConfigError: the vocabulary is unknown, or smaller than the tokenizer's.
    """
    asked = model.get("vocab_size")
    if asked is not None and vocab_size is not None and asked < vocab_size:
        raise ConfigError(
            [
                Problem(
                    "model.vocab_size",
                    f"{asked} rows cannot hold the tokenizer's {vocab_size} tokens.",
                    f"Take null, or {vocab_size} or more.",
                )
            ]
        )
    size = asked or vocab_size
    if size is None:
        raise ConfigError(
            [
                Problem(
                    "model.vocab_size",
                    "the size of the vocabulary is not known.",
                    "Set it, or give a tokenizer.",
                )
            ]
        )
    heads, width = model["n_heads"], model["d_model"]
    return ModelShape(
        vocab_size=size,
        context_length=model["context_length"],
        d_model=width,
        n_layers=model["n_layers"],
        n_heads=heads,
        n_kv_heads=model.get("n_kv_heads") or heads,
        d_head=model.get("d_head") or width // heads,
        d_ff=model.get("d_ff") or 4 * width,
    )


class _Assembly:
    """One model being put together."""

    def __init__(self, model: Config, shape: ModelShape) -> None:
        self.model, self.shape = model, shape
        self.position = _part("position", model["position"], shape)
        self.mask = _mask(model["mask"])

    def gpt(self) -> GPT:
        blocks = [self.block(index, self.layer(index)) for index in range(self.shape.n_layers)]
        counts = sorted({block.streams for block in blocks})
        if len(counts) > 1:
            problem = f"blocks of {' and '.join(map(str, counts))} residual streams stand in one model."
            hint = "Take one kind for all layers: a block with several streams cannot hand them to one with another."
            raise ConfigError([Problem("model.layers", problem, hint)])
        embedding = _part("embedding", self.model["embedding"], self.shape, self.position)
        ends_bare = bool(blocks) and blocks[-1].needs_final_norm
        norm = _part("norm", self.model["norm"], self.shape.d_model) if ends_bare else nn.Identity()
        head = _part("head", self.model["head"], self.shape, embedding)
        return GPT(self.shape, embedding, self.position, self.mask, blocks, norm, head)

    def layer(self, index: int) -> Config:
        """The parts of one layer: the model's, changed by each slice of `layers` that holds it."""
        parts = {name: self.model[name] for name in PER_LAYER}
        for where, changes in (self.model.get("layers") or {}).items():
            if index in layers_in(where, self.shape.n_layers):
                parts.update(changes)
        return parts

    def block(self, index: int, parts: Config) -> Block:
        shape = replace(self.shape, layer=index)
        own_position = parts["position"] != self.model["position"]
        own_mask = parts["mask"] != self.model["mask"]
        position = self.own_position(parts["position"], shape) if own_position else self.position
        mask = _mask(parts["mask"]) if own_mask else self.mask
        attention: Attention = _part("attention", parts["attention"], shape, position, mask)
        if own_position:
            attention.own("position")
        if own_mask:
            attention.own("mask")
        feed_forward = _part("feed_forward", parts["feed_forward"], shape)
        return _part("block", parts["block"], attention, feed_forward, partial(_part, "norm", parts["norm"]))

    def own_position(self, node: Config, shape: ModelShape) -> PositionalEncoding:
        """A position encoding for one layer; one that acts on embeddings would never be asked."""
        position = _part("position", node, shape)
        if type(position).embed is not PositionalEncoding.embed:
            problem = f"{node['name']!r} is added to the embeddings, once for all layers."
            hint = "Choose it as model/position; a layer may differ by none, rotary, alibi and their like."
            raise ConfigError([Problem("model.layers", problem, hint)])
        return position


def refused(model: Config, shape: ModelShape) -> list[Problem]:
    """What the parts of a model refuse, each beside the plainest of those that are refused themselves."""
    problems: list[Problem] = []

    def made(parts: Config, places: Config, slot: str, *given: Any, plainest: Any = None) -> Any:
        try:
            return _mask(parts[slot]) if slot == "mask" else _part(slot, parts[slot], *given)
        except ConfigError as error:
            usual, place = f"model.{slot}", places.get(slot, f"model.{slot}")
            problems.extend(replace(p, key=re.sub(rf"^{usual}\b", place, p.key)) for p in error.problems)
            return _part(slot, {"name": plainest}, *given) if plainest else None

    with torch.device("meta"):
        for where, changes in {"": {}, **(model.get("layers") or {})}.items():
            parts = {**model, **changes}
            look = partial(made, parts, {slot: f"model.layers.{where}.{slot}" for slot in changes})
            position = look("position", shape, plainest="none")
            mask = look("mask") or Causal()
            read = look("attention", shape, position, mask, plainest="grouped_query")
            think = look("feed_forward", shape, plainest="none")
            norm = look("norm", shape.d_model)
            make_norm = partial(_part, "norm", parts["norm"] if norm is not None else {"name": "none"})
            look("block", read, think, make_norm)
        look = partial(made, model, {})
        embedding = look("embedding", shape, look("position", shape, plainest="none"), plainest="token")
        look("head", shape, embedding)
        look("init", shape)
    return list(dict.fromkeys(problems))


def layers_in(where: str, n_layers: int) -> range:
    """The layers that a slice names: `'0'`, `'-1'`, `'2:4'`, `'3::4'`.

    Raises:
        ConfigError: it is no slice, or one number that is no layer.
    """
    try:
        numbers = [int(part) if part else None for part in where.split(":")]
        if len(numbers) > 1:
            return range(n_layers)[slice(*numbers)]
        index = range(n_layers)[int(where)]
    except (ValueError, TypeError):
        problem = "expected a slice of layer numbers such as '0', '-1', '2:4' or '3::4'."
        raise ConfigError([Problem(f"model.layers.{where}", problem)]) from None
    except IndexError:
        hint = f"Layers are 0 to {n_layers - 1}." if n_layers else "It has none."
        raise ConfigError([Problem(f"model.layers.{where}", "the model has no such layer.", hint)]) from None
    return range(index, index + 1)


def _part(slot: str, node: Mapping[str, Any], *given: Any) -> Any:
    """Build the part that a node names, from what the builder gives and the node's options."""
    name = node["name"]
    options = {key: value for key, value in node.items() if key != "name"}
    try:
        return registry.load(f"model.{slot}", name)(*given, **options)
    except ConfigError:
        raise
    except UserError as error:
        told = str(error).removeprefix(f"model.{slot}: ")  # of a part within the part
        told = told.replace(f"model.{slot}={name}", repr(name), 1)  # the key stands before
        raise ConfigError([Problem(f"model.{slot}", told)]) from error


def _mask(nodes: Mapping[str, Mapping[str, Any]]) -> Mask:
    """All masks of a node, joined by 'and'; none at all forbids nothing."""
    masks = [_part("mask", {"name": name, **options}) for name, options in nodes.items()]
    if not masks:
        return Full()
    return masks[0] if len(masks) == 1 else AllOf(masks)


def part(slot: str, value: Any, *given: Any) -> Any:
    """One part by itself, for tests and notebooks: `part("position", "sinusoidal", shape)`."""
    if slot == "mask":
        return _mask(normal_part(registry.SLOTS["model.mask"], value))
    return _part(slot, normal_part(registry.SLOTS[f"model.{slot}"], value), *given)
