"""T5's buckets against transformers' own, and the bias against a loop."""

from __future__ import annotations

import pytest
import torch

from gptkit.errors import UserError
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(
    vocab_size=5, context_length=8, d_model=8, n_layers=1, n_heads=4, n_kv_heads=4, d_head=2, d_ff=8
)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("buckets", "far"), [(32, 128), (8, 20), (16, 1000)])
def test_buckets_are_those_of_transformers(buckets: int, far: int, bidirectional: bool) -> None:
    peer = pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention
    node = {"name": "t5", "n_buckets": buckets, "max_distance": far, "bidirectional": bidirectional}
    made = part("position", node, SHAPE)
    distance = torch.arange(-300, 300)
    theirs = peer._relative_position_bucket(-distance, bidirectional, buckets, far)
    assert torch.equal(made.bucket_of(distance), theirs)


def test_the_bias_is_the_tables() -> None:
    made = part("position", "t5", SHAPE).double()
    torch.nn.init.normal_(made.weight)
    q, k = torch.zeros(1, 4, 3, 2).double(), torch.zeros(1, 4, 60, 2).double()
    bias = made.score_bias(q, k, torch.tensor([[57, 58, 59]]), torch.arange(60)[None])
    for h in range(4):
        for i in range(3):
            for j in range(60):
                far = max(0, 57 + i - j)
                bucket = far if far < 16 else int(made.bucket_of(torch.tensor(far)))
                assert bias[0, h, i, j] == made.weight[bucket, h]


def test_sizes_that_cannot_be_are_refused() -> None:
    for options in ({"n_buckets": 3}, {"max_distance": 16}, {"n_buckets": 6, "bidirectional": True}):
        with pytest.raises(UserError, match="buckets"):
            part("position", {"name": "t5", **options}, SHAPE)
