"""Patterns of whole blocks of tokens, which kernels can leave out at once."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from gptkit.errors import UserError
from gptkit.model.interfaces import Mask, MaskContext
from gptkit.registry import register
from gptkit_sparse_masks import at_least

Number = TypeVar("Number", int, Tensor)
WORD = 1 << 32


@register("model.mask", "chunked")
class Chunked(Mask):
    """A token reads those of its own chunk (Llama 4: Meta 2025).

    q reads k where floor(q / chunk) = floor(k / chunk). Llama 4 has it in three layers of four; the
    fourth reads the whole text.

    Args:
        chunk: tokens of a chunk.
    """

    allows_self = True

    def __init__(self, *, chunk: int = 32) -> None:
        super().__init__()
        at_least(1, "chunked", "a chunk holds at least one token", chunk=chunk)
        self.chunk = chunk

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        return q_positions // self.chunk == k_positions // self.chunk


@register("model.mask", "block_sparse")
class BlockSparse(Mask):
    """A token reads its own block and those at given distances (Gray et al. 2017).

    q reads k where floor(q / block) - floor(k / block) is 0 or one of `offsets`.

    Args:
        block: tokens of a block.
        offsets: how many blocks before its own the others stand; below 0 means after.
    """

    allows_self = True

    def __init__(
        self,
        *,
        block: int = 8,
        offsets: list[int] = [1, 4],  # noqa: B006 - read as plain data, never changed
    ) -> None:
        super().__init__()
        at_least(1, "block_sparse", "a block holds at least one token", block=block)
        self.block, self.offsets = block, sorted({*offsets} - {0})

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        distance = q_positions // self.block - k_positions // self.block
        result = distance == 0
        for offset in self.offsets:
            result = result | (distance == offset)
        return result


@register("model.mask", "random_blocks")
class RandomBlocks(Mask):
    """Near blocks, first blocks and random blocks (Zaheer et al. 2020, BigBird).

    With i and j the blocks of q and k, q reads k where |i - j| <= window_blocks, or i or j is below
    global_blocks, or hash(seed, i, j) < share * 2^32. So each further block is read with probability
    `share`, where the paper draws a given number of them: a hash needs no table, no length and no
    generator, and says the same of every text, at every step and on every device.

    Args:
        block: tokens of a block.
        share: the probability of a block that is neither near nor global, from 0 to 1.
        window_blocks: how many blocks to each side of its own a token reads.
        global_blocks: how many first blocks read all and are read by all.
        seed: another one draws other blocks.
    """

    allows_self = True

    def __init__(
        self, *, block: int = 8, share: float = 0.125, window_blocks: int = 1, global_blocks: int = 1, seed: int = 0
    ) -> None:  # fmt: skip
        super().__init__()
        at_least(1, "random_blocks", "a block holds at least one token", block=block)
        at_least(
            0, "random_blocks", "it counts blocks", window_blocks=window_blocks, global_blocks=global_blocks
        )
        if not 0 <= share <= 1:
            raise UserError(
                f"random_blocks: share={share}, but it is a probability; take a number from 0 to 1."
            )
        self.block, self.window_blocks, self.global_blocks = block, window_blocks, global_blocks
        self.start, self.below = mixed(seed % WORD), round(share * WORD)

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        i, j = q_positions // self.block, k_positions // self.block
        near = (i - j).abs() <= self.window_blocks
        everywhere = (i < self.global_blocks) | (j < self.global_blocks)
        drawn = mixed(mixed(i ^ self.start) ^ j) < self.below
        return near | everywhere | drawn


def mixed(word: Number) -> Number:
    """A hash of 32-bit words onto themselves (Mueller 2012): each bit of the result hangs on all of them."""
    for _ in range(2):
        word = ((word >> 16) ^ word) * 0x45D9F3B % WORD
    return (word >> 16) ^ word
