"""Attention to chosen blocks against plain loops, and held to every law of attention."""

from __future__ import annotations

import pytest
import torch

from gptkit.errors import UserError
from gptkit.testing.layers import X, built, shape, step


def test_it_is_its_formula() -> None:
    made = built(shape(), name="block_choice", block=2, n_blocks=2)
    q, k, v = (X[0] @ made.qkv.weight.T + made.qkv.bias).view(6, 3, 2, 4).unbind(1)
    rows = torch.zeros(6, 8, dtype=torch.float64)
    left_out = 0
    for h in range(2):
        for t in range(6):
            own, means = t // 2, {}
            for block in range(own):
                means[block] = (q[t, h] @ k[2 * block : 2 * block + 2, h].mean(0)).item()
            chosen = {own, *sorted(means, key=lambda b: -means[b])[:1]}
            left_out += own + 1 - len(chosen)
            keys = [s for s in range(t + 1) if s // 2 in chosen]
            weights = torch.stack([q[t, h] @ k[s, h] / 2 for s in keys]).softmax(0)
            rows[t, 4 * h : 4 * h + 4] = sum(w * v[s, h] for w, s in zip(weights, keys, strict=True))
    assert left_out == 4
    assert torch.allclose(made(X, step())[0], rows @ made.out.weight.T + made.out.bias, atol=1e-12, rtol=0)


def test_with_all_blocks_it_is_plain_attention() -> None:
    made, plain = built(shape(), name="block_choice", block=2, n_blocks=9), built(shape(), name="multi_head")
    assert torch.allclose(made(X, step()), plain(X, step()), atol=1e-12, rtol=0)


def test_the_laws_hold_where_blocks_are_left_out() -> None:
    """All but three: not all that may be read is read, and blocks begin at places, whatever turns q and k."""
    from gptkit import registry
    from gptkit.testing.checks import checks_of, run_check
    from gptkit.testing.subject import Subject

    subject = Subject(registry.find("model.attention", "block_choice"), {"block": 2, "n_blocks": 2})
    outcomes = [run_check(check, subject) for check in checks_of("model.attention") if not check.once]
    failed = {o.check.name: o.told for o in outcomes if o.status == "failed"}
    about_places = {"order_is_told_by_positions_alone", "hears_rotations"}
    assert set(failed) == {"reads_what_it_may", *about_places}, failed


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(UserError, match="n_blocks=0"):
        built(shape(), name="block_choice", n_blocks=0)
