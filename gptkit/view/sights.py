"""What can be seen of a model before it is trained: who reads whom, and how it is told positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gptkit.model.assemble import part
from gptkit.model.cost import mask_end
from gptkit.model.init import initialise
from gptkit.model.interfaces import DistanceBias, Mask, MaskContext, ModelShape, PositionalEncoding
from gptkit.model.masks import dense
from gptkit.model.step import places_in_documents
from gptkit.registry import SLOTS
from gptkit.schema import normal_part
from gptkit.view.layers import LayerKind, named

_MOST = 1024  # positions that a mask is asked about; evenly spaced ones of more


@dataclass(frozen=True)
class Sight:
    """A matrix worth seeing.

    Attributes:
        title: what it is.
        note: what else one should know.
        matrix: its numbers.
        across, down: what columns and rows are.
        span: how many positions it stands for.
        power: of the colours, see `pictures.Scale`.
    """

    title: str
    note: str
    matrix: np.ndarray
    across: str
    down: str
    span: int
    power: float = 1.0


def masks(
    section: Mapping[str, Any], kinds: list[LayerKind], shape: ModelShape, most: int | None
) -> list[Sight]:
    """Each mask that a layer uses, once.

    Args:
        section: the model section of a config, normalised.
        kinds: its layers.
        shape: its sizes.
        most: how many positions to show; null shows the context.
    """
    sights = []
    for node, where in _by_node(kinds, "mask"):
        mask = part("mask", node)
        end = mask_end(mask, min(shape.context_length, most or shape.context_length))
        matrix, example = _seen(mask, end)
        ends = f"ends at {end} positions" if end < min(most or end + 1, shape.context_length) else ""
        note = ", ".join(text for text in (mask_name(node), example, ends) if text)
        sights.append(Sight(f"Mask{where}", note, matrix, "key", "query", end))
    return sights


def _by_node(kinds: list[LayerKind], role: str) -> list[tuple[Any, str]]:
    """Each node of a part that layers hold, and in which: `, layers 0–2`, or nothing where it is in all."""
    found: list[tuple[Any, list[int]]] = []
    for kind in kinds:
        node = kind.parts[role]
        known = next((layers for other, layers in found if other == node), None)
        if known is None:
            found.append((node, list(kind.layers)))
        else:
            known.extend(kind.layers)
    if len(found) < 2:
        return [(node, "") for node, _ in found]
    return [(n, f", layer{'s' if len(at) > 1 else ''} {named(sorted(at))}") for n, at in found]


def mask_name(node: Mapping[str, Any]) -> str:
    """Masks joined by 'and'; numbers and words among their options are told, matrices are not, and masks
    within masks stand in brackets."""
    if not node:
        return "none, every token reads every token"
    return " and ".join(_mask_names(node))


def _mask_names(node: Mapping[str, Any]) -> list[str]:
    texts = []
    for name, options in normal_part(SLOTS["model.mask"], node).items():
        within = _mask_names(options.get("of", {}))
        if within:
            joined = (" or " if name == "any" else " and ").join(within)
            joined = f"({joined})" if len(within) > 1 else joined
            texts.append(joined if name == "any" else f"{name} {joined}")
            continue
        told = [f"{key}={value}" for key, value in options.items() if not isinstance(value, (list, dict))]
        texts.append(f"{name}({', '.join(told)})" if told else name)
    return texts


def _seen(mask: Mask, end: int) -> tuple[np.ndarray, str]:
    """Who may read whom; masks that depend on the batch are shown with an example of one."""
    at = torch.arange(end) if end <= _MOST else torch.linspace(0, end - 1, _MOST).round().long()
    at = at.unsqueeze(0)
    plain = _matrix(mask, at, MaskContext())
    third = (at * 3).div(end, rounding_mode="floor")
    examples: list[tuple[str, dict[str, torch.Tensor]]] = [
        (
            "three documents in a row",
            {
                "q_documents": third,
                "k_documents": third,
                "k_places": places_in_documents(third, at),
            },
        ),
        ("an eighth of padding at the end", {"k_padding": at >= end - end // 8}),
    ]
    if not plain.triu(1).any():  # else it has a prefix of its own already
        examples.append(("a sixth of the text as prefix", {"prefix": torch.tensor([max(1, end // 6)])}))
    acting = [(t, c) for t, c in examples if not torch.equal(_matrix(mask, at, MaskContext(**c)), plain)]
    if not acting:
        return plain.double().numpy(), ""
    context = MaskContext(**{key: value for _, given in acting for key, value in given.items()})
    told = "for example with " + " and ".join(text for text, _ in acting)
    return _matrix(mask, at, context).double().numpy(), told


def _matrix(mask: Mask, at: torch.Tensor, context: MaskContext) -> torch.Tensor:
    size = at.shape[1]
    return dense(mask, at, at, context).expand(1, size, size)[0]


def positions(config: Mapping[str, Any], kinds: list[LayerKind], shape: ModelShape, most: int) -> list[Sight]:
    """How the model is told positions, at each place where it is; empty where it is not.

    Args:
        config: a whole config, normalised; its seed and `model.init` draw what is learned.
        kinds: its layers.
        shape: its sizes.
        most: how many positions to show.
    """
    section = config["model"]
    nodes = _by_node(kinds, "position")
    if all(node != section["position"] for node, _ in nodes):
        nodes = [(section["position"], ""), *nodes]  # added to the tokens, if at all
    found = []
    for node, where in nodes:
        position: PositionalEncoding = part("position", node, shape)
        holder = torch.nn.Module()
        holder.position = position  # under its name in the model, from which its numbers are drawn
        initialise(holder, part("init", section["init"], shape), int(config.get("seed", 0)))
        end = min(most, shape.context_length, position.max_positions or most)
        with torch.no_grad():
            found += told(position, f"Position: {node['name']}", where, shape, end)
    return found


def places(position: type | PositionalEncoding) -> list[str]:
    """Where an encoding acts, in words."""
    kind, base = position if isinstance(position, type) else type(position), PositionalEncoding
    acts = {
        "added to the tokens": kind.embed is not base.embed,
        "turns queries and keys": kind.rotate is not base.rotate,
        "added to the scores": kind.score_bias is not base.score_bias,
    }
    return [words for words, does in acts.items() if does]


def told(
    position: PositionalEncoding,
    name: str,
    where: str,
    shape: ModelShape,
    end: int,
    *,
    state: str = ", as first drawn",
) -> list[Sight]:
    """What is to be seen at each place where an encoding acts.

    Args:
        position: the encoding.
        name, where: what it is called, and the layers that have it.
        shape: the model's sizes.
        end: how many positions to show.
        state: said of numbers that are learned.
    """
    acts, at, found = places(position), torch.arange(end).unsqueeze(0), []
    if "added to the tokens" in acts:
        added = position.embed(torch.zeros(1, end, shape.d_model), at)[0]
        first = state if sum(p.numel() for p in position.parameters()) else ""
        found.append(
            Sight(name, f"added to the tokens{first}", _numbers(added), "dimension", "position", end)
        )
    if not shape.n_layers:
        return found  # nothing has queries, keys or scores
    if "turns queries and keys" in acts:
        note = "how alike each number of a head stays to itself, by distance"
        turned = _numbers(_turned(position, shape, at))
        found.append(Sight(name + where, note, turned, "distance", "number", end))
    if isinstance(position, DistanceBias):
        bias = _numbers(position.bias_of(at[0]))
        note = "added to the scores of each head, by distance"
        found.append(Sight(name + where, note, bias, "distance", "head", end, power=0.5))
    elif "added to the scores" in acts:
        q = torch.zeros(1, shape.n_heads, end, shape.d_head)
        given = position.score_bias(q, q[:, : shape.n_kv_heads], at, at)
        note = "added to the scores of the last query, for q = k = 0"
        if given is not None and not given.any():  # it depends on what the query is
            q = torch.randn(q.shape, generator=torch.Generator().manual_seed(1))
            given = position.score_bias(q, q[:, : shape.n_kv_heads], at, at)
            note = "added to the scores of the last query, for q and k drawn at random"
        if given is not None:
            last = _numbers(given.expand(1, shape.n_heads, end, end)[0, :, -1])
            found.append(Sight(name + where, note, last, "key", "head", end, power=0.5))
    return found


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy()


def _turned(position: PositionalEncoding, shape: ModelShape, at: torch.Tensor) -> torch.Tensor:
    """<R_p e, R_0 e> for each unit vector e of a head and each distance p: cosines for a rotation."""
    unit = torch.eye(shape.d_head).view(shape.d_head, 1, 1, shape.d_head)
    given = unit.expand(-1, shape.n_heads, at.shape[1], -1)  # [Dh, H, T, Dh]: a unit vector in each row
    q, k = position.rotate(given, given[:, : shape.n_kv_heads], at, at)
    return (q[:, 0] * k[:, 0, :1]).sum(-1)  # [Dh, T]
