"""Digests that prove variants paired: what they must share, hashed so that it can be held side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from gptkit.text.batches import BatchOrder, evaluation_windows
from gptkit.text.shards import Dataset


def proof(config: Mapping[str, Any], data: Dataset) -> dict[str, Any]:
    """Digests of what variants must share to be paired: examples, evaluation, tokenizer, first weights."""
    import gptkit

    trainer, size = config["trainer"], config["data"]["batch_size"]
    context = config["model"]["context_length"]
    order = BatchOrder(len(data.train), context, size, config["seed"])
    examples = hashlib.sha256(np.ascontiguousarray(data.train).tobytes())
    for step in range(trainer.get("max_steps") or 0):
        examples.update(order.starts(step).tobytes())
    windows = evaluation_windows(len(data.val), context)
    told = hashlib.sha256(np.ascontiguousarray(data.val).tobytes() + windows.tobytes())
    model = gptkit.build(config)
    return {
        "batches": examples.hexdigest(),
        "evaluation": told.hexdigest(),
        "evaluation_is_training": not len(data.val),
        "tokenizer": data.tokenizer.fingerprint(),
        "weights": {name: digest(parameter) for name, parameter in model.named_parameters()},
    }


def digest(tensor: Tensor) -> str:
    """A tensor's shape, and the sha256 of its numbers in float32: `128x64 3fa9…`."""
    numbers = tensor.detach().float().cpu().contiguous().numpy().tobytes()
    shape = "x".join(map(str, tensor.shape)) or "1"
    return f"{shape} {hashlib.sha256(numbers).hexdigest()}"
