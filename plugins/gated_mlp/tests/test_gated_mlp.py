"""Gated networks against plain sums."""

from __future__ import annotations

import math

import pytest
import torch

from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(
    vocab_size=5, context_length=8, d_model=4, n_layers=1, n_heads=1, n_kv_heads=1, d_head=4, d_ff=3
)
SIGMAS = {
    "swiglu": lambda x: x / (1 + math.exp(-x)),
    "geglu": lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))),
    "reglu": lambda x: max(0.0, x),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", SIGMAS)
def test_it_is_its_formula(name: str, bias: bool) -> None:
    exact = {"approximate": "none"} if name == "geglu" else {}
    network = part("feed_forward", {"name": name, "bias": bias, **exact}, SHAPE).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(1, 1, 4, dtype=torch.float64)
    w, w2 = network.gate_up.weight.tolist(), network.down.weight.tolist()
    b = network.gate_up.bias.tolist() if bias else [0.0] * 6
    b2 = network.down.bias.tolist() if bias else [0.0] * 4
    v = x.flatten().tolist()
    hidden = [sum(a * c for a, c in zip(w[i], v, strict=True)) + b[i] for i in range(6)]
    passed = [SIGMAS[name](hidden[i]) * hidden[i + 3] for i in range(3)]
    expected = [sum(a * c for a, c in zip(w2[i], passed, strict=True)) + b2[i] for i in range(4)]
    assert network(x).flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_gemmas_gelu_is_the_tanh_one() -> None:
    network = part("feed_forward", "geglu", SHAPE).double()
    x = torch.randn(1, 1, 4, dtype=torch.float64)
    gate, up = network.gate_up(x).chunk(2, dim=-1)
    gelu = 0.5 * gate * (1 + torch.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
    assert torch.allclose(network(x), network.down(gelu * up), atol=1e-12, rtol=0)
