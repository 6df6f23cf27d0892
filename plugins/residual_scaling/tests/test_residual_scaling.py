"""Scaled residuals against sublayers followed by hand, and first weights against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gptkit.errors import ConfigError, UserError
from gptkit.model.assemble import build, part
from tiny import shape  # pyright: ignore[reportMissingImports]

SHAPE = shape(d_model=4, n_heads=1, n_layers=3)


class Times(nn.Module):
    """A sublayer or a norm that multiplies."""

    absent = False
    shape = SHAPE

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, step: object = None) -> Tensor:
        return x * self.factor


def block(name: str, absent: bool = False, **options: float) -> nn.Module:
    factors = iter([2.0, 3.0])
    network = part("feed_forward", "none", SHAPE) if absent else Times(13.0)
    node = {"name": name, **options}
    return part("block", node, Times(11.0), network, lambda width: Times(next(factors))).double()


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("name", ["rezero", "layer_scale", "deep_norm"])
def test_each_block_is_its_formula(name: str, absent: bool) -> None:
    it = block(name, absent, **({"start": 0.5} if name == "layer_scale" else {}))
    channel = [1.0, 2.0, -3.0, 0.25]
    alpha = 6**0.25
    if name == "rezero":
        nn.init.constant_(it.alpha, 0.7)  # type: ignore[arg-type]
    if name == "layer_scale":
        with torch.no_grad():
            it.attention_gamma.copy_(torch.tensor(channel))  # type: ignore[operator]
    found = it(torch.ones(2, 3, 4, dtype=torch.float64), None)
    for i in range(4):
        if name == "rezero":
            first = 1 + 0.7 * 11
            expected = first + 0.7 * 13 * first
        elif name == "layer_scale":
            first = 1 + channel[i] * 11 * 2
            expected = first + 0.5 * 13 * 3 * first
        else:
            first = 2 * (alpha + 11)
            expected = 3 * (alpha * first + 13 * first)
        assert found[1, 2, i].item() == pytest.approx(first if absent else expected, rel=1e-12)


def test_alpha_may_be_given() -> None:
    x = torch.ones(1, 1, 4, dtype=torch.float64)
    assert block("deep_norm", alpha=1.0)(x, None)[0, 0, 0].item() == 3 * (2 * 12 + 13 * 2 * 12)


def built(**model: object) -> dict[str, Tensor]:
    sizes = {"context_length": 8, "d_model": 64, "n_layers": 2, "n_heads": 4, "d_ff": 192}
    return dict(build({"model": {**sizes, **model}, "seed": 3}, vocab_size=200).named_parameters())


def std(matrix: Tensor) -> float:
    return matrix.detach().square().mean().sqrt().item()


def test_what_is_learned_starts_where_it_was_told() -> None:
    rezero, scaled = built(block="rezero"), built(block={"name": "layer_scale", "start": 0.25})
    assert rezero["blocks.1.alpha"].tolist() == [0.0]
    gammas = [p for name, p in scaled.items() if "gamma" in name]
    assert len(gammas) == 4
    assert all(torch.equal(p, torch.full_like(p, 0.25)) for p in gammas)
    assert not any("norm" in name for name in rezero)


def test_the_first_weights_of_deep_norm() -> None:
    named = built(init="deep_norm", attention="grouped_query", n_kv_heads=2)
    beta = 16**-0.25
    q, k, v = named["blocks.1.attention.qkv.weight"].split([64, 32, 32])
    expected = [
        (q, 1, 64 + 64), (k, 1, 64 + 32), (v, beta, 64 + 32),
        (named["blocks.1.attention.out.weight"], beta, 64 + 64),
        (named["blocks.1.feed_forward.up.weight"], beta, 64 + 192),
        (named["blocks.1.feed_forward.down.weight"], beta, 64 + 192),
        (named["embedding.weight"], 1, 128),
    ]  # fmt: skip
    for matrix, gain, fans in expected:
        assert std(matrix) == pytest.approx(gain * math.sqrt(2 / fans), rel=0.05)
    assert named["blocks.1.feed_forward.up.bias"].abs().max() == 0
    assert named["blocks.1.attention_norm.weight"].min() == 1


@pytest.mark.parametrize("scale_residual", [True, False])
def test_the_small_first_weights(scale_residual: bool) -> None:
    named = built(init={"name": "small", "scale_residual": scale_residual})
    small = math.sqrt(2 / 5 / 64)
    residual = 2 / 2 / 8 if scale_residual else small
    for name, value in named.items():
        if value.ndim == 2:
            goal = residual if name.endswith(("out.weight", "down.weight")) else small
            assert std(value) == pytest.approx(goal, rel=0.08), name


def test_what_cannot_be_is_refused() -> None:
    for name, option, value in [("layer_scale", "start", math.inf), ("deep_norm", "alpha", 0.0)]:
        with pytest.raises(UserError, match=option):
            block(name, False, **{option: value})
    with pytest.raises(UserError, match="beta"):
        part("init", {"name": "deep_norm", "beta": 0.0}, SHAPE)
    init = part("init", "deep_norm", SHAPE)
    with pytest.raises(UserError, match="rows of blocks"):
        init.fill("blocks.0.attention.qkv.weight", torch.zeros(7, 4), "weight", torch.Generator())
    with pytest.raises(ConfigError):
        built(block={"name": "deep_norm", "alpha": -1.0})
