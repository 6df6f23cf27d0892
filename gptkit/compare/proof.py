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


def proof(config: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """Digests of what variants must share to be paired: examples, evaluation, tokenizer, first weights."""
    import gptkit

    context = config["model"]["context_length"]
    order = BatchOrder.of(data.splits["train"], context, config["data"]["batch_size"], config["seed"])
    examples = _told(data.splits["train"])
    for step in range(config["trainer"].get("max_steps") or 0):
        examples.update(order.starts(step).tobytes())
    told = hashlib.sha256()
    for name in sorted(data.splits.keys() - {"train"}):
        split = data.splits[name]
        told.update(_told(split).digest() + evaluation_windows(split, context).tobytes())
    model = gptkit.build(config)
    return {
        "batches": examples.hexdigest(),
        "evaluation": told.hexdigest(),
        "evaluation_is_training": not len(data.val),
        "tokenizer": data.tokenizer.fingerprint(),
        "weights": {name: digest(parameter) for name, parameter in model.named_parameters()},
    }


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
