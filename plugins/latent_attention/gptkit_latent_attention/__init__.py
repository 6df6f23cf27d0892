"""Attention that keeps one small vector of each token instead of keys and values for every head."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gptkit.errors import UserError, check_options
from gptkit.model.cache import KeyValueCache
from gptkit.model.interfaces import Attention, Mask, ModelShape, PositionalEncoding, Step, mark
from gptkit.model.kernels import Kernel, attend, check
from gptkit.model.options import count_rule, eps_rule, pattern_rules
from gptkit.registry import register


@register("model.attention", "latent")
class Latent(Attention):
    """Multi-head latent attention: c = norm(x W_down), [k_h; v_h] = c W_up (DeepSeek-V2, 2024).

    Positions are told to a second part of each query and to one key that all heads share:
    score = scale (q_h . k_h + rot(q'_h) . rot(k')). Only c and k' are kept of a token. One token is read
    without making keys and values of those held: q_h W_up^T meets c itself, and the weighed c is mapped
    once (the matrices are absorbed).

    `model.d_head` is the width that positions are told to (d^R in the paper; rotary turns it).

    Args:
        d_content: width of the part of a head that no position is told to; null takes d_head.
        d_value: width of a head's values; null takes d_content.
        kv_rank: width of c; null takes 4 d_content.
        q_rank: width of what queries are made from in the same way; null makes them from x.
        bias: whether the maps from and to the stream have biases (those to the ranks, and the map back).
        eps: added to the mean square where c is normalised.
        dropout: rate on the attention pattern.
        scale: factor on the score; null takes 1 / sqrt(d_content + d_head).
        kernel: sdpa (fused), eager (the formula as written) or flex (compiled, CUDA).

    Raises:
        UserError: model.n_kv_heads differs from n_heads; here all heads share what is kept.
    """

    def __init__(
        self,
        shape: ModelShape,
        position: PositionalEncoding,
        mask: Mask,
        *,
        d_content: int | None = None,
        d_value: int | None = None,
        kv_rank: int | None = None,
        q_rank: int | None = None,
        bias: bool = False,
        eps: float = 1e-6,
        dropout: float = 0.0,
        scale: float | None = None,
        kernel: Literal["sdpa", "eager", "flex"] = "sdpa",
    ) -> None:
        super().__init__(shape, position, mask)
        widths = {"d_content": d_content, "d_value": d_value, "kv_rank": kv_rank, "q_rank": q_rank}
        rules = (*(count_rule(*width) for width in widths.items()), eps_rule(eps))
        check_options("model.attention", *rules, *pattern_rules(dropout, scale))
        check(kernel, dropout)
        if shape.n_kv_heads != shape.n_heads:
            raise UserError(
                f"latent: model.n_kv_heads={shape.n_kv_heads} of {shape.n_heads} heads, but all heads share what it "
                "keeps of a token. Take model.n_kv_heads=null, and kv_rank for a smaller cache."
            )
        self.heads, self.d_placed = shape.n_heads, shape.d_head
        self.d_content = d_content or shape.d_head
        self.d_value = d_value or self.d_content
        self.rank = kv_rank or 4 * self.d_content
        self.dropout = dropout
        self.kernel: Kernel = kernel
        self.scale = (self.d_content + self.d_placed) ** -0.5 if scale is None else scale
        width = self.heads * (self.d_content + self.d_placed)
        if q_rank is None:
            self.q = nn.Linear(shape.d_model, width, bias=False)
        else:
            down = nn.Linear(shape.d_model, q_rank, bias=bias)
            self.q = nn.Sequential(down, nn.RMSNorm(q_rank, eps), nn.Linear(q_rank, width, bias=False))
        self.kv_down = nn.Linear(shape.d_model, self.rank + self.d_placed, bias=bias)
        self.kv_norm = nn.RMSNorm(self.rank, eps)
        self.kv_up = nn.Linear(self.rank, self.heads * (self.d_content + self.d_value), bias=False)
        self.out = mark(nn.Linear(self.heads * self.d_value, shape.d_model, bias=bias), "residual")

    def forward(self, x: Tensor, step: Step) -> Tensor:
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, T, d_content + d_placed]
        content, placed = q.split([self.d_content, self.d_placed], dim=-1)
        latent, key = self.kv_down(x).unsqueeze(1).split([self.rank, self.d_placed], dim=-1)  # [B, 1, T, .]
        latent = self.kv_norm(latent)
        placed, key = self.position.rotate(placed, key, step.q_positions, step.q_positions)
        if step.cache is not None:
            key, latent = step.cache.append(key, latent)
        absorbed = step.cache is not None and 2 * x.shape[1] < self.d_content + self.d_value
        read = self.read_absorbed if absorbed else self.read
        return self.out(read(content, placed, key, latent, step).transpose(1, 2).flatten(2))

    def read(self, content: Tensor, placed: Tensor, key: Tensor, latent: Tensor, step: Step) -> Tensor:
        """With keys and values of every head: [B, H, T, d_value].

        Args:
            content: [B, H, T, d_content].
            placed: [B, H, T, d_placed], told where it stands.
            key: [B, 1, S, d_placed], told where it stands.
            latent: [B, 1, S, rank].
        """
        kv = self.kv_up(latent.squeeze(1)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = kv.split([self.d_content, self.d_value], dim=-1)  # [B, H, S, .]
        k = torch.cat([k, key.expand(-1, self.heads, -1, -1)], dim=-1)
        return self._attend(torch.cat([content, placed], dim=-1), k, v, placed, key, step)

    def read_absorbed(
        self, content: Tensor, placed: Tensor, key: Tensor, latent: Tensor, step: Step
    ) -> Tensor:
        """The same from what is kept, as from one head of keys and values; arguments as of `read`."""
        up = self.kv_up.weight.view(self.heads, -1, self.rank)
        k_up, v_up = up.split([self.d_content, self.d_value], dim=1)  # [H, ., rank]
        q = torch.cat([content @ k_up, placed], dim=-1)
        mixed = self._attend(q, torch.cat([latent, key], dim=-1), latent, placed, key, step)
        return mixed @ v_up.transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, placed: Tensor, key: Tensor, step: Step) -> Tensor:
        return attend(
            q, k, v, step, position=self.position, mask=self.mask, scale=self.scale,
            dropout=self.dropout if self.training else 0.0, kernel=self.kernel, told=(placed, key),
        )  # fmt: skip

    def new_cache(
        self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype, slack: int = 1
    ) -> KeyValueCache:
        return KeyValueCache(batch, capacity, (1, self.d_placed), (1, self.rank), device, dtype, slack)
