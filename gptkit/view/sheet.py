"""All that `gptkit show` tells of a model, gathered once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gptkit.model import cost
from gptkit.model.dry_run import bare_copy
from gptkit.model.gpt import GPT
from gptkit.view.formula import block_formula
from gptkit.view.layers import LayerKind, layer_kinds
from gptkit.view.sights import Sight, masks, positions

_PARTS = ("embedding", "position", "attention", "feed_forward", "norm", "block", "head")
CONVENTION = (
    "matrix products, 2 operations for each weight met and for each number of each key and value of the "
    "context, masked ones as well (PaLM, appendix B); training = 3 x forward"
)


@dataclass(frozen=True)
class Sheet:
    """A model, as it is drawn.

    Attributes:
        name: of its preset.
        model: on the meta device, or any.
        config: the whole config, normalised.
        kinds: its layers, alike ones together.
        formulas: for each kind, what the block computes, and its parts in order.
        parameters: by part.
        operations: of the forward pass, for each token.
        memory: of training and of decoding.
        masks, positions: what there is to see.
        asked: the number of positions in them was asked for.
    """

    name: str
    model: GPT
    config: Mapping[str, Any]
    kinds: list[LayerKind]
    formulas: list[tuple[list[str], list[str]]]
    parameters: dict[str, int]
    operations: cost.Operations
    memory: cost.Memory
    masks: list[Sight]
    positions: list[Sight]
    asked: bool = False


def sheet(model: GPT, config: Mapping[str, Any], *, seen: int | None = None) -> Sheet:
    """Look at a model.

    Args:
        model: as built from `config`; the meta device is enough.
        config: whole and normalised, as `gptkit.compose` gives it.
        seen: how many positions the pictures show; null shows the context in masks and 128 elsewhere.
    """
    section, shape = config["model"], model.shape
    kinds = layer_kinds(section, shape.n_layers)
    bare = bare_copy(model).train()
    return Sheet(
        name=section.get("preset") or "GPT",
        model=model,
        config=config,
        kinds=kinds,
        formulas=[block_formula(bare, kind.layers[0]) for kind in kinds],
        parameters=_in_order(cost.parameters_by_part(model)),
        operations=cost.operations(model),
        memory=cost.memory(model, rows_at_once(config)),
        masks=masks(section, kinds, shape, seen),
        positions=positions(config, kinds, shape, seen or 128),
        asked=seen is not None,
    )


def rows_at_once(config: Mapping[str, Any]) -> int:
    """Rows of a batch that one device holds at once, were it alone."""
    batch = config.get("data", {}).get("batch_size") or 1
    return config.get("trainer", {}).get("micro_batch_size") or batch


def _in_order(counts: dict[str, int]) -> dict[str, int]:
    """Parts in the order in which a token meets them."""
    known = [part for part in _PARTS if part in counts]
    return {part: counts[part] for part in [*known, *(part for part in counts if part not in known)]}


def facts(seen: Sheet) -> dict[str, Any]:
    """The sheet as plain data, without its pictures."""
    operations, memory = seen.operations, seen.memory
    return {
        "name": seen.name,
        "shape": asdict(seen.model.shape),
        "layers": [
            {"layers": list(kind.layers), "parts": kind.parts, "formula": formula}
            for kind, (formula, _) in zip(seen.kinds, seen.formulas, strict=True)
        ],
        "parameters": seen.model.n_parameters(),
        "parameters_by_part": seen.parameters,
        "flops_per_token": {
            "forward": operations.forward,
            "training": operations.training,
            "reading": sum(operations.reading.values()),
            "reading_unmasked": operations.visible,
            "by_part": operations.by_part(),
            "keys": operations.keys,
            "estimated_parts": list(operations.guessed),
            "convention": CONVENTION,
        },
        "memory_bytes": {**asdict(memory), "training": memory.training, "decoding": memory.decoding},
        "model": seen.config["model"],
    }
