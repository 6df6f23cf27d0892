"""Rotary against complex numbers, and the laws that make it a relative encoding."""

from __future__ import annotations

import cmath

import pytest
import torch

import gptkit
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(
    vocab_size=11, context_length=8, d_model=32, n_layers=1, n_heads=4, n_kv_heads=4, d_head=8, d_ff=64
)


def turned(vector: list[float], position: int, base: float, width: int, interleaved: bool) -> list[float]:
    """The same with complex multiplication, pair by pair."""
    result = list(vector)
    for i in range(width // 2):
        a, b = (2 * i, 2 * i + 1) if interleaved else (i, i + width // 2)
        z = complex(vector[a], vector[b]) * cmath.exp(1j * position * base ** (-2 * i / width))
        result[a], result[b] = z.real, z.imag
    return result


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.25])
def test_equals_complex_multiplication(interleaved: bool, fraction: float) -> None:
    rotary = part(
        "position", {"name": "rotary", "fraction": fraction, "interleaved": interleaved, "base": 50.0}, SHAPE
    )
    q, k = torch.randn(2, 2, 4, 5, 8, dtype=torch.float64)
    positions = torch.tensor([[0, 1, 7, 300, 5], [9, 2, 2, 4, 100_000]])
    out_q, out_k = rotary.rotate(q, k, positions, positions)
    for given, out in ((q, out_q), (k, out_k)):
        for b, h, t in [(0, 0, 0), (0, 3, 3), (1, 1, 4), (1, 2, 0)]:
            expected = turned(
                given[b, h, t].tolist(), int(positions[b, t]), 50.0, round(8 * fraction), interleaved
            )
            assert torch.allclose(
                out[b, h, t], torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0
            )


def test_scores_depend_on_distance_alone_and_norms_stay() -> None:
    rotary = part("position", "rotary", SHAPE)
    q, k = torch.randn(2, 1, 4, 6, 8, dtype=torch.float64)
    near, far = torch.arange(6)[None], torch.arange(6)[None] + 1234
    scores = []
    for positions in (near, far):
        a, b = rotary.rotate(q, k, positions, positions)
        assert torch.allclose(a.norm(dim=-1), q.norm(dim=-1), atol=1e-12, rtol=0)
        scores.append(a @ b.transpose(-1, -2))
    assert torch.allclose(*scores, atol=1e-10, rtol=0)
    assert not torch.allclose(scores[0], q @ k.transpose(-1, -2), atol=1e-3)


def test_cached_decoding_equals_the_full_pass() -> None:
    cfg = gptkit.compose(["model/position=rotary", "model.n_layers=2", "tokenizer=byte"])
    model = gptkit.build(cfg).double().eval()
    tokens = torch.randint(0, 256, (2, 12))
    full = model(tokens)
    for cut in range(1, 12):
        caches = model.new_caches(2, 12)
        parts = [model(tokens[:, :cut], caches=caches)]
        parts += [model(tokens[:, i : i + 1], caches=caches) for i in range(cut, 12)]
        assert torch.allclose(torch.cat(parts, dim=1), full, atol=1e-12, rtol=0)


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(gptkit.errors.UserError, match="even number"):
        part("position", {"name": "rotary", "fraction": 0.1}, SHAPE)
