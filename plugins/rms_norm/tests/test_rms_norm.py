"""RMSNorm against plain sums and against the layers of Llama and Gemma."""

from __future__ import annotations

import math

import pytest
import torch

from gptkit.model.assemble import part


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_it_is_its_formula(offset: float) -> None:
    norm = part("norm", {"name": "rms", "eps": 1e-3, "offset": offset}, 6).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    found = norm(x)
    for b in range(2):
        for t in range(3):
            root = math.sqrt(sum(float(v) ** 2 for v in x[b, t]) / 6 + 1e-3)
            for i in range(6):
                expected = float(x[b, t, i]) / root * (offset + norm.weight[i].item())
                assert float(found[b, t, i]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("offset", "home", "name"), [(0.0, "llama", "LlamaRMSNorm"), (1.0, "gemma", "GemmaRMSNorm")]
)
def test_it_rounds_as_the_family_does(offset: float, home: str, name: str, dtype: torch.dtype) -> None:
    modeling = pytest.importorskip(f"transformers.models.{home}.modeling_{home}")
    peer = getattr(modeling, name)(16, eps=1e-6).to(dtype)
    norm = part("norm", {"name": "rms", "offset": offset}, 16).to(dtype)
    with torch.no_grad():
        peer.weight.normal_()
        norm.weight.copy_(peer.weight)
    x = torch.randn(4, 16).to(dtype) * 3
    assert torch.equal(norm(x), peer(x))


def test_the_gain_starts_at_one_whatever_the_offset() -> None:
    import gptkit

    for offset in (0.0, 1.0):
        words = ["model/norm=rms", f"model.norm.offset={offset}", "tokenizer=byte", "model.n_layers=1"]
        model = gptkit.build(gptkit.compose(words))
        weight = dict(model.named_parameters())["norm.weight"]
        assert torch.equal(weight + offset, torch.ones_like(weight))
