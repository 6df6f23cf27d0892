"""Two patterns of which two steps reach every token: the Sparse Transformer's (Child et al. 2019)."""

from __future__ import annotations

from torch import Tensor

from gptkit.model.interfaces import Mask, MaskContext
from gptkit.registry import register
from gptkit_sparse_masks import at_least


@register("model.mask", "strided")
class Strided(Mask):
    """The last `stride` tokens, and every `stride`-th before them (Child et al. 2019, section 4.3).

    q reads k where |q - k| < stride or stride divides q - k. With stride near sqrt(T) a token reads
    about 2 sqrt(T) others, and reaches any earlier one over one between them.

    Args:
        stride: length of the near part, and the step of the far one; about the root of the context.
    """

    allows_self = True

    def __init__(self, *, stride: int = 8) -> None:
        super().__init__()
        at_least(1, "strided", "a step is at least one token", stride=stride)
        self.stride = stride

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        distance = (q_positions - k_positions).abs()
        return (distance < self.stride) | (distance % self.stride == 0)


@register("model.mask", "fixed")
class Fixed(Mask):
    """A token's own block, and the last tokens of every block, which sum it up (Child et al. 2019, section 4.3).

    q reads k where floor(q / block) = floor(k / block) or k mod block >= block - summary.

    Args:
        block: tokens of a block.
        summary: how many last tokens of each block every token reads.
    """

    allows_self = True

    def __init__(self, *, block: int = 8, summary: int = 1) -> None:
        super().__init__()
        at_least(1, "fixed", "a block holds at least one token", block=block)
        at_least(0, "fixed", "it counts tokens", summary=summary)
        self.block, self.summary = block, summary

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        own = q_positions // self.block == k_positions // self.block
        return own | (k_positions % self.block >= self.block - self.summary)
