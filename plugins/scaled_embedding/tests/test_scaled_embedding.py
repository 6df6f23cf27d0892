"""Scaled embeddings against the formula and against Gemma's."""

from __future__ import annotations

import pytest
import torch

from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(
    vocab_size=5, context_length=8, d_model=6, n_layers=1, n_heads=1, n_kv_heads=1, d_head=6, d_ff=8
)


@pytest.mark.parametrize("factor", [None, 3.5])
def test_vectors_are_multiplied_and_positions_are_not(factor: float | None) -> None:
    position = part("position", "sinusoidal", SHAPE)
    embedding = part("embedding", {"name": "scaled", "factor": factor}, SHAPE, position).double()
    torch.nn.init.normal_(embedding.weight)
    tokens, at = torch.tensor([[3, 0]]), torch.tensor([[4, 5]])
    plain = embedding.weight[tokens] * (6**0.5 if factor is None else factor)
    assert torch.allclose(embedding(tokens, at), position.embed(plain, at), atol=1e-12, rtol=0)


def test_in_16_bits_it_rounds_as_gemma_does() -> None:
    modeling = pytest.importorskip("transformers.models.gemma2.modeling_gemma2")
    peer = modeling.Gemma2TextScaledWordEmbedding(5, 6, None, embed_scale=6**0.5).bfloat16()
    embedding = part("embedding", "scaled", SHAPE, part("position", "none", SHAPE)).bfloat16()
    with torch.no_grad():
        embedding.weight.copy_(peer.weight)
    tokens = torch.arange(5)[None]
    assert torch.equal(embedding(tokens, tokens), peer(tokens))
