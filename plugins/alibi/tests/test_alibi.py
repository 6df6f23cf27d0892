"""ALiBi against the paper's numbers, and its bias against plain loops."""

from __future__ import annotations

import pytest
import torch

import gptkit
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape


def shape(heads: int) -> ModelShape:
    return ModelShape(
        vocab_size=11,
        context_length=8,
        d_model=8 * heads,
        n_layers=1,
        n_heads=heads,
        n_kv_heads=heads,
        d_head=8,
        d_ff=64,
    )


def test_slopes_are_the_papers() -> None:
    assert part("position", "alibi", shape(8)).slopes == [2.0**-n for n in range(1, 9)]
    sixteen = part("position", "alibi", shape(16)).slopes
    assert sixteen == pytest.approx([2.0 ** (-n / 2) for n in range(1, 17)], abs=1e-15)
    twelve = part("position", "alibi", shape(12)).slopes
    assert twelve == pytest.approx(
        [2.0**-n for n in range(1, 9)] + [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5], abs=1e-15
    )


def test_bias_is_linear_in_distance() -> None:
    alibi = part("position", "alibi", shape(4))
    q, k = torch.zeros(1, 4, 3, 8, dtype=torch.float64), torch.zeros(1, 4, 7, 8, dtype=torch.float64)
    q_at, k_at = torch.tensor([[4, 5, 6]]), torch.arange(7)[None]
    bias = alibi.score_bias(q, k, q_at, k_at)
    assert bias.shape == (1, 4, 3, 7)
    for h in range(4):
        for i in range(3):
            for j in range(7):
                assert bias[0, h, i, j] == pytest.approx(-(2.0 ** (-2 * (h + 1))) * abs(4 + i - j), abs=1e-12)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_cached_decoding_equals_the_full_pass_past_the_context(kernel: str) -> None:
    cfg = gptkit.compose(
        [
            "model/position=alibi",
            "model.context_length=8",
            f"model.attention.kernel={kernel}",
            "tokenizer=byte",
        ]
    )
    model = gptkit.build(cfg).double().eval()
    tokens = torch.randint(0, 256, (2, 20))
    full = model(tokens)
    for cut in range(1, 20, 3):
        caches = model.new_caches(2, 20)
        parts = [model(tokens[:, :cut], caches=caches)]
        parts += [model(tokens[:, i : i + 1], caches=caches) for i in range(cut, 20)]
        assert torch.allclose(torch.cat(parts, dim=1), full, atol=1e-12, rtol=0)
