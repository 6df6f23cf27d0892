"""Hyper-connections: several residual streams, and learned weights of what each sublayer reads and writes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit.errors import UserError
from gptkit.model.interfaces import Attention, Block, FeedForward, MakeNorm, Step
from gptkit.model.options import dropout_layer
from gptkit.registry import register


@register("model.block", "hyper_connections")
class HyperConnections(Block):
    """n streams H; each sublayer f reads a mixture and writes to all: H' = A_r^T H + b f(norm(a^T H))
    (Zhu et al. 2024).

    The streams start as n copies of the embedded tokens and are summed at the end. With a the unit vector of
    one stream, A_r the identity and b all ones, which is how it starts, it is a pre-norm block. `dynamic`
    adds to each of a, A_r and b what the streams themselves ask for: s tanh(norm(H) W), from W = 0.

    Args:
        n_streams: n.
        dynamic: whether the weights depend on the streams.
        dropout: rate on what each sublayer adds.

    Raises:
        UserError: fewer than one stream.
    """

    def __init__(
        self,
        attention: Attention,
        feed_forward: FeedForward,
        make_norm: MakeNorm,
        *,
        n_streams: int = 4,
        dynamic: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if n_streams < 1:
            raise UserError(f"hyper_connections: n_streams={n_streams}; take 1 or more.")
        self.streams = n_streams
        width, first = attention.shape.d_model, 2 * attention.shape.layer
        self.attention_norm = make_norm(width)
        self.attention = attention
        self.attention_paths = Paths(width, n_streams, first, dynamic)
        self.feed_forward = feed_forward
        absent = feed_forward.absent
        self.feed_forward_norm = None if absent else make_norm(width)
        self.feed_forward_paths = None if absent else Paths(width, n_streams, first + 1, dynamic)
        self.dropout = dropout_layer("model.block", dropout)

    def enter(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, n, D], n times the same."""
        return x.unsqueeze(-2).expand(*x.shape[:-1], self.streams, -1)

    def leave(self, x: Tensor) -> Tensor:
        """[B, T, n, D] -> [B, T, D], the sum."""
        return x.sum(-2)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        read, carried, write = self.attention_paths(x)
        x = carried + write * self.dropout(self.attention(self.attention_norm(read), step)).unsqueeze(-2)
        if self.feed_forward_norm is None or self.feed_forward_paths is None:
            return x
        read, carried, write = self.feed_forward_paths(x)
        return carried + write * self.dropout(self.feed_forward(self.feed_forward_norm(read))).unsqueeze(-2)


class Paths(nn.Module):
    """What one sublayer reads of the streams, how they go on, and how its result is written to them.

    Args:
        width: of a stream.
        streams: n.
        number: of the sublayer, from the bottom; it begins by reading stream `number` modulo n.
        dynamic: whether the weights depend on the streams.
    """

    def __init__(self, width: int, streams: int, number: int, dynamic: bool) -> None:
        super().__init__()
        self.number = number
        self.read = nn.Parameter(torch.zeros(streams))
        self.carry = nn.Parameter(torch.eye(streams))
        self.write = nn.Parameter(torch.ones(streams))
        self.dynamic = dynamic
        if dynamic:
            self.norm = nn.LayerNorm(width, bias=False)
            self.ask = nn.Parameter(
                torch.zeros(width, streams + 2)
            )  # of a stream: its n ways on, read, write
            self.scale = nn.Parameter(torch.full((2,), 0.01))  # of reading and carrying, of writing

    def init_parameter(self, name: str, tensor: Tensor, generator: torch.Generator) -> bool:
        """It starts as a pre-norm block."""
        if name == "carry":
            nn.init.eye_(tensor)
        elif name == "read":
            tensor.zero_()[self.number % tensor.numel()] = 1.0
        else:
            tensor.fill_({"write": 1.0, "ask": 0.0, "scale": 0.01}[name])
        return True

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Streams [B, T, n, D] -> what is read [B, T, D], what goes on [B, T, n, D], weights [.., n, 1]."""
        read, carry, write = self.read, self.carry, self.write
        if self.dynamic:
            asked = (self.norm(x) @ self.ask).tanh()  # [B, T, n, n + 2]
            ways, want, give = asked.split([x.shape[-2], 1, 1], dim=-1)
            carry = carry + self.scale[0] * ways
            read = read + self.scale[0] * want.squeeze(-1)
            write = write + self.scale[1] * give.squeeze(-1)
        mixed = (read.unsqueeze(-1) * x).sum(-2)
        return mixed, carry.transpose(-2, -1) @ x, write.unsqueeze(-1)
