"""Windows: with holes, with the first tokens beside them."""

from __future__ import annotations

from torch import Tensor

from gptkit.model.interfaces import Mask, MaskContext
from gptkit.registry import register
from gptkit_sparse_masks import at_least


@register("model.mask", "dilated")
class Dilated(Mask):
    """A window with holes: every `dilation`-th token of those near (Beltagy et al. 2020, Longformer).

    q reads k where |q - k| < window * dilation and dilation divides q - k: as many keys as a window
    has, over a stretch `dilation` times as long.

    Args:
        window: how many tokens a token reads to one side, itself among them.
        dilation: the step from one of them to the next; 1 is a window without holes.
    """

    allows_self = True

    def __init__(self, *, window: int = 16, dilation: int = 2) -> None:
        super().__init__()
        at_least(1, "dilated", "a token reads at least itself, in steps of at least one", window=window,
                 dilation=dilation)  # fmt: skip
        self.window, self.dilation = window, dilation

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        distance = (q_positions - k_positions).abs()
        return (distance < self.window * self.dilation) & (distance % self.dilation == 0)


@register("model.mask", "sink_window")
class SinkWindow(Mask):
    """A window, and the first tokens, which soak up attention that is not needed (Xiao et al. 2023, StreamingLLM).

    q reads k where |q - k| < window or k < sinks.

    Args:
        window: how many tokens a token reads to one side, itself among them.
        sinks: how many first tokens every token reads.
    """

    allows_self = True

    def __init__(self, *, window: int = 16, sinks: int = 4) -> None:
        super().__init__()
        at_least(1, "sink_window", "a token reads at least itself", window=window)
        at_least(0, "sink_window", "it counts tokens", sinks=sinks)
        self.window, self.sinks = window, sinks

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        return ((q_positions - k_positions).abs() < self.window) | (k_positions < self.sinks)


@register("model.mask", "global_tokens")
class GlobalTokens(Mask):
    """A window, and first tokens that read all and are read by all (Beltagy et al. 2020, Longformer).

    q reads k where |q - k| < window or k < count or q < count.

    Args:
        count: how many first tokens are global.
        window: how many tokens every other token reads to one side, itself among them.
    """

    allows_self = True

    def __init__(self, *, count: int = 1, window: int = 16) -> None:
        super().__init__()
        at_least(0, "global_tokens", "it counts tokens", count=count)
        at_least(1, "global_tokens", "a token reads at least itself", window=window)
        self.count, self.window = count, window

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        near = (q_positions - k_positions).abs() < self.window
        return near | (k_positions < self.count) | (q_positions < self.count)
