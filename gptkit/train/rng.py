"""The randomness of a step, as a function of the step and of nothing that came before it."""

from __future__ import annotations

import hashlib
import random
import struct

import numpy as np
import torch


def micro_batch_seed(seed: int, step: int, slot: int) -> int:
    """A 64-bit seed for one micro-batch, the same on every machine and for every world size.

    Args:
        seed: the run's.
        step: the update, counted from 0.
        slot: the micro-batch's place in the whole batch: accumulation index x devices + device.
    """
    digest = hashlib.blake2b(struct.pack("<qqq", seed, step, slot), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def seed_micro_batch(seed: int, step: int, slot: int, device: torch.device | None = None) -> None:
    """Seed Python's, NumPy's and torch's generators for one micro-batch; see `micro_batch_seed`.

    Args:
        seed, step, slot: as of `micro_batch_seed`.
        device: where the model is; its generator is seeded beside the CPU's.
    """
    value = micro_batch_seed(seed, step, slot)
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)
    value &= 0x7FFFFFFFFFFFFFFF
    torch.default_generator.manual_seed(value)  # torch.manual_seed looks at every backend: 0.4 ms
    if device is not None and device.type == "cuda":
        torch.cuda.manual_seed(value)
    elif device is not None and device.type == "mps":
        torch.mps.manual_seed(value)
