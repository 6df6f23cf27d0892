"""Which tokens each step reads: a function of the seed and the step, and of nothing else.

Running text is cut into windows of the context length; examples have rows of their own. Each epoch
goes through them in an order that a keyed permutation gives, one index at a time, so any step can be
asked for at once and there is no state to save.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gptkit.errors import DataError
from gptkit.text.splits import Split

IGNORED = -100
_TABLE = 1 << 20  # permutations up to this size are kept whole: 8 MiB
_BLOCK = 1 << 12  # of a larger one, so many indices are computed at once
_ROUNDS = 8  # with four, permutations of few indices favour some places


class BatchOrder:
    """The first tokens of the examples of each step.

    In an epoch each window is read exactly once. Windows begin at an offset that changes with the
    epoch, so that their borders move: an epoch leaves out fewer than `2 * context_length` tokens, some
    before its first window and the rest after its last, and over the epochs every token but the very
    first, which nothing precedes, is a target. A batch may end one epoch and begin the next.

    Args:
        n_tokens: length of the training split.
        context_length: tokens in an example; its targets reach one further.
        batch_size: examples of a step, over all devices.
        seed: decides the order.
        in_rows: examples stand in rows of `context_length + 1` tokens, and begin nowhere else.

    Raises:
        DataError: the split does not hold one example and its next token.
    """

    def __init__(
        self, n_tokens: int, context_length: int, batch_size: int, seed: int, *, in_rows: bool = False
    ) -> None:
        self.context_length, self.batch_size, self.seed = context_length, batch_size, seed
        spare = n_tokens - 1
        if spare < context_length:
            raise DataError(f"{n_tokens} tokens hold no example of {context_length} and its next token.")
        if in_rows:
            self.stride = context_length + 1
            self.windows, self.slack = n_tokens // self.stride, 0
        else:
            self.stride = context_length
            self.windows = max(1, (spare - context_length + 1) // context_length)
            self.slack = spare - self.windows * context_length
        self._epochs: dict[int, tuple[Permutation, int]] = {}

    @classmethod
    def of(cls, split: Split, context_length: int, batch_size: int, seed: int) -> BatchOrder:
        """The order of a split; its examples are of `split.reach(context_length)` tokens."""
        length, in_rows = split.reach(context_length), split.width is not None
        return cls(len(split.tokens), length, batch_size, seed, in_rows=in_rows)

    def starts(self, step: int) -> np.ndarray:
        """The first token of each example of a step, [batch_size] int64."""
        index = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epoch, place = np.divmod(index, self.windows)
        if epoch[0] == epoch[-1]:
            return self._in_epoch(int(epoch[0]), place)
        return np.concatenate([self._in_epoch(int(e), place[epoch == e]) for e in np.unique(epoch)])

    def _in_epoch(self, epoch: int, place: np.ndarray) -> np.ndarray:
        if epoch not in self._epochs:
            self._epochs = {k: v for k, v in self._epochs.items() if k == epoch - 1}
            offset = stable_hash(self.seed, "offset", epoch) % (self.slack + 1)
            self._epochs[epoch] = Permutation(self.windows, stable_hash(self.seed, "order", epoch)), offset
        order, offset = self._epochs[epoch]
        return order(place) * self.stride + offset


class Permutation:
    """A permutation of 0 .. size - 1, computed for any index by itself.

    Eight rounds of a Feistel network on a square of at most four times `size`; an index that falls
    outside goes round again (cycle walking: Black and Rogaway 2002).

    Args:
        size: up to 2^62.
        key: which permutation.
    """

    def __init__(self, size: int, key: int) -> None:
        self.size = size
        self.bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
        self.mask = np.uint64((1 << self.bits) - 1)
        self.keys = [np.uint64(stable_hash(key, "round", number)) for number in range(_ROUNDS)]
        self.table = self._compute(np.arange(size)) if 0 < size <= _TABLE else None
        self._block = -1, np.empty(0, np.int64)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """[...] int64 -> [...] int64."""
        if self.table is not None:
            return self.table[index]
        block = int(index.min()) // _BLOCK
        if int(index.max()) // _BLOCK != block:
            return self._compute(index)
        if self._block[0] != block:
            here = np.arange(block * _BLOCK, min(self.size, (block + 1) * _BLOCK))
            self._block = block, self._compute(here)
        return self._block[1][index - block * _BLOCK]

    def _compute(self, index: np.ndarray) -> np.ndarray:
        value = np.asarray(index).astype(np.uint64)
        value = self._rounds(value)
        outside = value >= self.size
        while outside.any():
            value[outside] = self._rounds(value[outside])
            outside = value >= self.size
        return value.astype(np.int64)

    def _rounds(self, value: np.ndarray) -> np.ndarray:
        bits = np.uint64(self.bits)
        left, right = value >> bits, value & self.mask
        for key in self.keys:
            left, right = right, left ^ (_mix(right + key) & self.mask)
        return (left << bits) | right


def _mix(value: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def stable_hash(*parts: Any) -> int:
    """A 62-bit number that depends on the parts alone, on every machine."""
    told = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big") >> 2


def batch(split: Split, starts: np.ndarray, context_length: int) -> tuple[Tensor, Tensor]:
    """The examples that begin at `starts`, and the token after each of theirs.

    Args:
        split: what is read.
        starts: [B]; an example that reaches past the end is filled with token 0 and target -100.
        context_length: T.

    Returns:
        Inputs and targets, [B, T] int64 each; a target that is not scored is -100.
    """
    tokens = split.tokens
    starts = np.asarray(starts, dtype=np.int64)
    index = starts[:, None] + np.arange(context_length + 1)
    short = int(starts.max()) + context_length >= len(tokens)
    within = np.minimum(index, len(tokens) - 1) if short else index
    both = torch.from_numpy(np.asarray(tokens[within], dtype=np.int64))
    inputs, targets = both[:, :-1], both[:, 1:]
    if split.scored is not None:
        targets = targets.masked_fill(torch.from_numpy(~split.scored[within])[:, 1:], IGNORED)
    if not short:
        return inputs, targets
    past = torch.from_numpy(index >= len(tokens))
    return inputs.masked_fill(past[:, :-1], 0), targets.masked_fill(past[:, 1:], IGNORED)


def evaluation_windows(split: Split, context_length: int) -> np.ndarray:
    """The first tokens of windows that score every target exactly once, [W] int64."""
    stride = split.width or context_length
    return np.arange(0, max(0, len(split.tokens) - 1), stride, dtype=np.int64)


def spelled(split: Split, starts: np.ndarray, length: int, token_bytes: Callable[[int], bytes]) -> int:
    """Bytes of the text that the targets of some windows spell."""
    index = (np.asarray(starts)[:, None] + np.arange(1, length + 1)).ravel()
    index = index[index < len(split.tokens)]
    if split.scored is not None:
        index = index[split.scored[index]]
    found, counts = np.unique(np.asarray(split.tokens)[index], return_counts=True)
    return int(np.dot([len(token_bytes(int(token))) for token in found], counts))
