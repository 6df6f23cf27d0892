"""GPT-2 written by hand, without parts: what a composed model is measured beside."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.model.cross_entropy import linear_cross_entropy


class Layer(nn.Module):
    """x + attention(norm(x)), then the same with the feed-forward network."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class ByHand(nn.Module):
    """The whole model, with a tied head, and the loss in the way that gptkit takes it."""

    def __init__(self, vocabulary: int, context: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return linear_cross_entropy(
            self.norm(x).flatten(0, 1), self.tokens.weight, None, targets.flatten(), "mean"
        )

    def take(self, composed: nn.Module) -> None:
        """The weights of a composed GPT-2."""
        names = {
            "embedding.weight": "tokens.weight", "position.weight": "places.weight", "blocks.": "layers.",
            "attention_norm.": "norm1.", "feed_forward_norm.": "norm2.", "attention.": "", "feed_forward.": "",
        }  # fmt: skip
        state = {}
        for name, tensor in composed.state_dict().items():
            for ours, theirs in names.items():
                name = name.replace(ours, theirs)
            state[name] = tensor
        self.load_state_dict(state)
