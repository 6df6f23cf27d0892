"""Digests that prove variants paired: what they must share, hashed so that it can be held side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from gptkit.text.batches import BatchOrder, evaluation_windows
from gptkit.text.shards import Dataset
from gptkit.text.splits import Split

WINDOW = 64  # tokens that must be the same for a text to count as seen
_MOST_SEARCHED = 1 << 24
_OF_EACH = 32  # numbers above and below zero, from which equal signs are no chance


def proof(config: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """Digests of what variants must share to be paired: examples, evaluation, tokenizer, first weights."""
    import gptkit

    context = config["model"]["context_length"]
    order = BatchOrder.of(data.splits["train"], context, config["data"]["batch_size"], config["seed"])
    examples, steps = _told(data.splits["train"]), config["trainer"].get("max_steps") or 0
    parts: dict[str, str] = {}  # so that runs of different lengths can be held side by side
    for step in range(steps):
        examples.update(order.starts(step).tobytes())
        if (step + 1).bit_count() == 1:
            parts[str(step + 1)] = examples.hexdigest()
    told = hashlib.sha256()
    for name in sorted(data.splits.keys() - {"train"}):
        split = data.splits[name]
        told.update(_told(split).digest() + evaluation_windows(split, context).tobytes())
    weights = dict(gptkit.build(config).named_parameters())
    drawn = {name: signs(parameter) for name, parameter in weights.items()}
    return {
        "batches": examples.hexdigest(),
        "batches_up_to": parts,
        "evaluation": told.hexdigest(),
        "evaluation_is_training": not len(data.val),
        "evaluation_seen": seen(data.train, data.val),
        "tokenizer": data.tokenizer.fingerprint(),
        "weights": {name: digest(parameter) for name, parameter in weights.items()},
        "signs": {name: told for name, told in drawn.items() if told},
    }


def seen(train: np.ndarray, val: np.ndarray, length: int = WINDOW) -> float:
    """The share of a text's windows that stand somewhere in another, token for token.

    Args:
        train: where they are looked for, [N]; of a longer one the first 16 million tokens.
        val: whose windows of `length` tokens, side by side, are looked up, [M].
    """
    windows = len(val) // length
    if not windows or len(train) < length:
        return 0.0
    known = _sums(train[:_MOST_SEARCHED], length)
    return float(np.isin(_sums(val, length)[: windows * length : length], known).mean())


def _sums(tokens: np.ndarray, length: int) -> np.ndarray:
    """A 64-bit digest of each window of `length` tokens (Karp and Rabin 1987), [N - length + 1]."""
    mixed = (np.asarray(tokens).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    found = np.zeros(len(mixed) - length + 1, np.uint64)
    with np.errstate(over="ignore"):
        for place in range(length):
            found = found * np.uint64(0xBF58476D1CE4E5B9) + mixed[place : place + len(found)]
    return found


def _told(split: Split) -> hashlib._Hash:
    """The numbers of a split, and which of them are scored."""
    found = hashlib.sha256(np.ascontiguousarray(split.tokens).tobytes())
    if split.scored is not None:
        found.update(np.ascontiguousarray(split.scored).tobytes())
    return found


def digest(tensor: Tensor) -> str:
    """A tensor's shape, and the sha256 of its numbers in float32: `128x64 3fa9…`."""
    numbers = tensor.detach().float().cpu().contiguous().numpy().tobytes()
    shape = "x".join(map(str, tensor.shape)) or "1"
    return f"{shape} {hashlib.sha256(numbers).hexdigest()}"


def signs(tensor: Tensor) -> str | None:
    """The sha256 of which numbers of a tensor are above zero, and so of a draw, whatever scale it was given.

    None for one that is no draw around zero, such as a constant, or too small a draw to be known by its signs.
    """
    numbers = tensor.detach().cpu().contiguous()
    above = numbers > 0
    if min(int(above.sum()), int((numbers < 0).sum())) < _OF_EACH:
        return None
    return hashlib.sha256(np.packbits(above.numpy()).tobytes()).hexdigest()
