"""Attention that reads only the blocks of a text that matter to a token, which it finds by their keys."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gptkit.errors import UserError
from gptkit.model.attention import PatternAttention
from gptkit.model.interfaces import Mask, ModelShape, PositionalEncoding, Step
from gptkit.model.kernels import softmax
from gptkit.registry import register


@register("model.attention", "block_choice")
class BlockChoice(PatternAttention):
    """Softmax over the tokens of a few blocks: a token's own, and those with the highest mean score
    (mixture of block attention: Lu et al. 2025).

    The text is cut into blocks of `block` positions. The mean of q . k over a block is q . (mean of k),
    so the choice costs one product a block; each head of each token chooses for itself. Tokens that a
    mask hides count for nothing, so under the causal mask a token chooses among earlier blocks.

    All scores are computed and those not chosen are hidden: this tells what the choice does to a
    model, and is not faster than plain attention.

    Args:
        block: positions of a block.
        n_blocks: blocks that a token reads, its own among them.
        bias: whether the linear maps have biases.
        out_bias: whether the map back has one; null takes `bias`.
        dropout: rate on the attention pattern.
        scale: factor on q k^T; null takes 1 / sqrt(d_head).
    """

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        block: int = 16,
        n_blocks: int = 3,
        bias: bool = True,
        out_bias: bool | None = None,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__(shape, position, mask, bias=bias, out_bias=out_bias, dropout=dropout, scale=scale)
        if block < 1 or n_blocks < 1:
            raise UserError(
                f"block_choice: block={block} and n_blocks={n_blocks}; a token reads at least its own block of "
                "one token, so take 1 or more."
            )
        self.block, self.n_blocks = block, n_blocks

    def pattern(self, scores: Tensor, allowed: Tensor, step: Step) -> Tensor:
        q_block, k_block = (
            step.q_positions // self.block,
            step.k_positions // self.block,
        )  # [1|B, T], [1|B, S]
        first = k_block[:, :1]
        count = min(self.n_blocks, scores.shape[-1])
        blocks = scores.shape[-1] // self.block + 2  # that so many keys may lie in, counted from the first
        member = F.one_hot((k_block - first).clamp(0, blocks - 1), blocks).to(
            scores.dtype
        )  # [1|B, S, blocks]
        with torch.no_grad():
            read = allowed.to(scores.dtype)
            total = (scores * read) @ member.unsqueeze(1)  # [B, H, T, blocks]
            held = read @ member.unsqueeze(1)
            mean = (total / held.clamp(min=1)).masked_fill(held == 0, float("-inf"))
            own = (
                F.one_hot((q_block - first).clamp(0, blocks - 1), blocks).bool().unsqueeze(1)
            )  # [1|B, 1, T, blocks]
            best = mean.masked_fill(own, float("inf")).topk(min(count, blocks), dim=-1).indices
            chosen = torch.zeros_like(mean).scatter_(-1, best, 1.0) @ member.transpose(1, 2).unsqueeze(1)
        return softmax(scores, allowed & (chosen > 0))
