"""Disentangled attention against plain loops, and against DeBERTa's own code."""

from __future__ import annotations

import pytest
import torch

from gptkit.errors import UserError
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(5, 8, 12, 2, 4, 2, 3, 8)
GENERATOR = torch.Generator().manual_seed(1)
Q = torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=GENERATOR)
K = torch.randn(2, 2, 7, 3, dtype=torch.float64, generator=GENERATOR)


@pytest.mark.parametrize(("to_place", "to_content"), [(True, True), (True, False), (False, True)])
def test_it_is_its_formula(to_place: bool, to_content: bool) -> None:
    node = {
        "name": "disentangled",
        "max_distance": 2,
        "content_to_place": to_place,
        "place_to_content": to_content,
    }
    made = part("position", {**node, "scale": 0.7}, SHAPE).double()
    with torch.no_grad():
        for table in made.parameters():
            table.copy_(torch.randn(table.shape, dtype=torch.float64, generator=GENERATOR))
    at = torch.arange(7)[None]
    found = made.score_bias(Q, K, at[:, 4:], at)
    for b in range(2):
        for h in range(4):
            for t in range(3):
                for j in range(7):
                    i, expected = 4 + t, torch.zeros((), dtype=torch.float64)
                    if to_place:
                        row = max(-2, min(1, i - j)) + 2
                        expected = expected + Q[b, h, t] @ made.keys[row, 3 * h : 3 * h + 3]
                    if to_content:
                        row = max(-2, min(1, j - i)) + 2
                        expected = expected + K[b, h // 2, j] @ made.queries[row, 3 * h : 3 * h + 3]
                    assert found[b, h, t, j].item() == pytest.approx(0.7 * expected.item(), abs=1e-12)


def test_it_is_what_transformers_computes() -> None:
    """They read the table of queries at i - j, where the paper reads it at j - i: theirs is ours turned round."""
    deberta = pytest.importorskip("transformers.models.deberta_v2.modeling_deberta_v2")
    config = pytest.importorskip("transformers").DebertaV2Config(
        hidden_size=12, num_attention_heads=4, relative_attention=True, max_relative_positions=8, position_buckets=-1,
        pos_att_type=["c2p", "p2c"], share_att_key=False, max_position_embeddings=8, hidden_dropout_prob=0.0,
    )  # fmt: skip
    theirs = deberta.DisentangledSelfAttention(config).double().eval()
    made = part("position", {"name": "disentangled", "max_distance": 8}, SHAPE).double()
    embeddings = torch.randn(16, 12, dtype=torch.float64, generator=GENERATOR)
    with torch.no_grad():
        made.keys.copy_(theirs.pos_key_proj(embeddings))
        made.queries[1:] = theirs.pos_query_proj(embeddings)[1:].flip(0)
    q, k = (torch.randn(1, 4, 6, 3, dtype=torch.float64, generator=GENERATOR) for _ in range(2))
    at = torch.arange(6)
    relative = (at[:, None] - at)[None]
    bias = theirs.disentangled_attention_bias(q.flatten(0, 1), k.flatten(0, 1), relative, embeddings, 3)
    expected = bias * 3**0.5  # they divide by sqrt(3 d), ours by sqrt(d)
    found = made.score_bias(q, k, at[None], at[None])
    assert torch.allclose(found.flatten(0, 1), expected.view_as(found.flatten(0, 1)), atol=1e-6, rtol=1e-6)


def test_telling_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="tells no order"):
        part(
            "position", {"name": "disentangled", "content_to_place": False, "place_to_content": False}, SHAPE
        )
