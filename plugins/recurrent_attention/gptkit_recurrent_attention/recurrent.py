"""Sums over all that came before, kept in a state of fixed size: what linear attention and retention share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gptkit.errors import UserError
from gptkit.model.attention import GroupedQuery
from gptkit.model.interfaces import Mask, MaskContext, PositionalEncoding, Step
from gptkit.model.kernels import exact

CHUNK = 64  # tokens that meet one another directly; the state carries what came before


class State:
    """What a layer knows of the tokens read: sum_s decay^(t - s) k_s v_s^T of each head.

    Attributes:
        sums: [B, H, Dk, Dv], or None before the first token.
        features: [B, H, Dk], the sum of the keys alone, where an attention asks for it.
        at: [1|B, 1], where the last token stood.
        length: tokens that the model counts as held.
    """

    def __init__(self, sums: Tensor | None = None, features: Tensor | None = None) -> None:
        self.sums, self.features = sums, features
        self.at: Tensor | None = None
        self.length = 0

    def truncate(self, length: int) -> None:
        """Forget all tokens, or none; a sum cannot give back what it took in.

        Raises:
            UserError: some are to be forgotten, and some kept.
        """
        if 0 < length < self.length:
            raise UserError(
                f"A recurrent attention has read {self.length} tokens and cannot go back to {length}: it keeps a "
                "sum, not the tokens. Read the text anew with new caches."
            )
        if length == 0:
            self.sums = self.features = self.at = None
        self.length = length

    def slide(self, keep: int) -> None:
        """Nothing is forgotten: the state holds all of the text in the same room."""
        self.length = keep

    @property
    def bytes(self) -> int:
        """Memory that the state takes."""
        return sum(held.nbytes for held in (self.sums, self.features) if held is not None)


class Recurrent(GroupedQuery):
    """Attention without a softmax, so that all that came before fits into one matrix a head."""

    is_recurrent = True
    name = "recurrent attention"

    def ask(self, position: PositionalEncoding, mask: Mask, context: MaskContext) -> None:
        """Whether positions and mask are of a kind that sums can follow.

        Raises:
            UserError: the mask is not the causal one, or positions are told by a bias on the scores.
        """
        if not mask.causal_in(context):
            raise UserError(
                f"{self.name} reads all that came before, so it knows the causal mask alone, and no documents. "
                "Take model/mask=causal, or another attention."
            )
        if type(position).score_bias is not PositionalEncoding.score_bias:
            raise UserError(
                f"{self.name} has no scores that {type(position).__name__} could add a bias to. "
                "Take positions that turn queries and keys, or are added to the stream: rotary, xpos, learned, none."
            )

    def summed(
        self, q: Tensor, k: Tensor, v: Tensor, state: State, at: Tensor, decay: Tensor | None = None
    ) -> Tensor:
        """sum_s decay^(t - s) (q_t . k_s) v_s over the tokens up to each: [B, H, T, Dv].

        Args:
            q, k: [B, H, T, Dk] of this step's tokens, a key of padding being zero.
            v: [B, H, T, Dv].
            state: of the tokens before, which these are added to.
            at: [1|B, T], where they stand, in floating point.
            decay: log of each head's decay, [H]; None for none.
        """
        parts = []
        for start in range(0, q.shape[2], CHUNK):
            span = slice(start, start + CHUNK)
            parts.append(_chunk(q[:, :, span], k[:, :, span], v[:, :, span], at[:, span], state, decay))
        state.length += q.shape[2]
        return torch.cat(parts, dim=2)

    def given(self, x: Tensor, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of every head, [B, H, T, Dh], at least in float32."""
        self.ask(self.position, self.mask, step.context)
        q, k, v = self.project(x)
        kind, groups = exact(q.dtype), self.heads // self.kv_heads
        return q.to(kind), *(t.to(kind).repeat_interleave(groups, dim=1) for t in (k, v))  # type: ignore[return-value]

    def unpadded(self, k: Tensor, step: Step) -> Tensor:
        """Keys [B, H, T, Dk] of this step, those of padding as zeros."""
        padding = step.context.k_padding
        return k if padding is None else k.masked_fill(padding[:, None, -k.shape[2] :, None], 0.0)

    def show(self, weights: Tensor, step: Step) -> None:
        """Note the weights [B, H, T, T] of this step as its pattern.

        Raises:
            UserError: earlier tokens are in a cache, which keeps only their sum.
        """
        assert step.patterns is not None
        if step.cache is not None:
            raise UserError(f"{self.name} cannot show how it reads a cache. Ask for patterns without one.")
        step.patterns.append(weights)

    def new_cache(
        self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype, slack: int = 1
    ) -> Any:
        sums = torch.zeros(batch, self.heads, self.d_head, self.d_head, device=device, dtype=exact(dtype))
        return State(sums)


def within(q: Tensor, k: Tensor, at: Tensor, decay: Tensor | None) -> Tensor:
    """decay^(t - s) q_t . k_s where s is not after t: [B, H, T, T]."""
    weights = (q @ k.transpose(-2, -1)).tril()
    if decay is None:
        return weights
    away = (at.unsqueeze(-1) - at.unsqueeze(-2)).clamp(min=0).unsqueeze(1)  # [1|B, 1, T, T]
    return weights * (decay.view(-1, 1, 1) * away).exp()


def _chunk(q: Tensor, k: Tensor, v: Tensor, at: Tensor, state: State, decay: Tensor | None) -> Tensor:
    """One chunk: its tokens meet one another directly, and the state stands for those before."""
    y = within(q, k, at, decay) @ v
    last = at[:, -1:]
    rates = None if decay is None else decay.view(-1, 1, 1)
    if rates is not None:
        k = k * (rates * (last - at)[:, None, :, None]).exp()
    new = k.transpose(-2, -1) @ v
    if state.sums is not None:
        before, held = q @ state.sums, state.sums
        if rates is not None and state.at is not None:
            before = before * (rates * (at - state.at)[:, None, :, None]).exp()
            held = held * (rates * (last - state.at)[:, None, :, None]).exp()
        y, new = y + before, new + held
    state.sums, state.at = new, last
    return y
