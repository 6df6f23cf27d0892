"""Norms, networks, blocks, embeddings, heads and first weights that are wrong on purpose."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from gptkit.model.blocks import PreNorm
from gptkit.model.embeddings import TokenEmbedding
from gptkit.model.feed_forward import MLP
from gptkit.model.heads import LanguageModelHead
from gptkit.model.init import GPT2Init
from gptkit.model.interfaces import Norm
from gptkit.model.norms import LayerNorm
from wrong import wrong


@wrong("model.norm", "each_token_alone")
class NormOverTokens(Norm):
    def __init__(self, width) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return (x - x.mean(1, keepdim=True)) * self.weight


@wrong("model.norm", "survives_bfloat16")
class NormInFloat32(LayerNorm):
    def forward(self, x):
        return super().forward(x).float() if x.dtype == torch.bfloat16 else super().forward(x)


@wrong("model.feed_forward", "each_token_alone")
class MixesTokens(MLP):
    def forward(self, x):
        return super().forward(x + x.roll(1, dims=1))


@wrong("model.feed_forward", "causal")
class LooksAhead(MLP):
    def forward(self, x):
        return super().forward(x + x.flip(1).cumsum(1).flip(1))


@wrong("model.feed_forward", "repeats_itself")
class DropoutInEvaluation(MLP):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, training=True)


@wrong("model.block", "gradients_reach_all")
class ForgetsTheNetwork(PreNorm):
    def forward(self, x, step):
        return x + self.attention(self.attention_norm(x), step)


@wrong("model.block", "reads_what_it_may")
class ForgetsAttention(PreNorm):
    def forward(self, x, step):
        return x + self.feed_forward(self.feed_forward_norm(x))


@wrong("model.embedding", "rows_stand_alone")
class CentredOverTheBatch(TokenEmbedding):
    def forward(self, tokens, positions):
        x = super().forward(tokens, positions)
        return x - x.mean(0, keepdim=True)


@wrong("model.head", "loss_is_of_the_logits")
class CountsWhatDoesNot(LanguageModelHead):
    def loss(self, x, targets, reduction="mean"):
        return super().loss(x, targets.clamp(min=0), reduction)


@wrong("model.init", "draws_from_its_generator")
class AllAlike(GPT2Init):
    def fill(self, name, parameter, role, generator):
        parameter.fill_(
            0.0 if role == "bias" else 1.0 if role == "norm" and name.endswith("weight") else 0.02
        )


@wrong("model.init", "draws_from_its_generator")
class AnotherGenerator(GPT2Init):
    def fill(self, name, parameter, role, generator):
        super().fill(name, parameter, role, torch.default_generator)
