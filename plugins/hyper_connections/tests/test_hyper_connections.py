"""Hyper-connections: where they start, and their formula, stream by stream."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gptkit
from gptkit.errors import ConfigError, UserError
from gptkit.model.interfaces import MaskContext, Step

SIZES = {
    "init": {"name": "gpt2", "std": 1.0},
    "n_layers": 2,
    "d_model": 8,
    "n_heads": 2,
    "vocab_size": 9,
    "context_length": 8,
}
X = torch.randint(0, 9, (2, 6), generator=torch.Generator().manual_seed(1))


def built(**options: object) -> Any:
    node = {"name": "hyper_connections", **options}
    return gptkit.build({"model": {**SIZES, "block": node}}).double().eval()


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("streams", [1, 3])
def test_it_starts_as_a_pre_norm_model(dynamic: bool, streams: int) -> None:
    model = built(dynamic=dynamic, n_streams=streams)
    plain = gptkit.build({"model": SIZES}).double().eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "_paths" not in k})
    x = plain.hidden(X)
    assert torch.allclose(model.hidden(X), x, atol=1e-4)  # the norm's eps meets a sum of streams
    if streams == 1:
        assert torch.allclose(model.hidden(X), x, atol=1e-12)


@pytest.mark.parametrize("dynamic", [True, False])
def test_it_is_its_formula(dynamic: bool) -> None:
    model = built(dynamic=dynamic, n_streams=3)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, dtype=torch.float64, generator=generator) * 0.3)
    block = model.blocks[1]
    h = torch.randn(1, 4, 3, 8, dtype=torch.float64, generator=generator)
    at = torch.arange(4)[None]
    expected = h.clone()
    for paths, norm, sublayer in (
        (
            block.attention_paths,
            block.attention_norm,
            lambda y: block.attention(y, Step(at, at, MaskContext())),
        ),
        (block.feed_forward_paths, block.feed_forward_norm, block.feed_forward),
    ):
        read, going = torch.zeros(1, 4, 8).double(), torch.zeros(1, 4, 3, 8).double()
        write = torch.zeros(1, 4, 3).double()
        for t in range(4):
            for i in range(3):
                stream = expected[0, t, i]
                asked = torch.zeros(5).double()
                if dynamic:
                    normed = (stream - stream.mean()) / (stream.var(unbiased=False) + 1e-5).sqrt()
                    asked = torch.tanh((normed * paths.norm.weight) @ paths.ask)
                s = paths.scale if dynamic else torch.zeros(2).double()
                read[0, t] += (paths.read[i] + s[0] * asked[3]) * stream
                write[0, t, i] = paths.write[i] + s[1] * asked[4]
                for j in range(3):
                    going[0, t, j] += (paths.carry[i, j] + s[0] * asked[j]) * stream
        result = sublayer(norm(read))
        expected = going + write.unsqueeze(-1) * result.unsqueeze(-2)
    found = block(h, Step(at, at, MaskContext()))
    assert torch.allclose(found, expected, atol=1e-12, rtol=0)


def test_sublayers_take_turns_in_what_they_read_first() -> None:
    model = built(n_streams=3)
    firsts = [p.read.argmax().item() for b in model.blocks for p in (b.attention_paths, b.feed_forward_paths)]
    assert firsts == [0, 1, 2, 0]


def test_blocks_of_one_stream_do_not_mix_in() -> None:
    node = {**SIZES, "block": "hyper_connections", "layers": {"1": {"block": "pre"}}}
    with pytest.raises(ConfigError, match="1 and 4 residual streams"):
        gptkit.build({"model": node})
    with pytest.raises(UserError, match="n_streams=0"):
        built(n_streams=0)
