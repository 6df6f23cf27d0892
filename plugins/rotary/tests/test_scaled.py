"""Scaled rotary frequencies against transformers' own, xPos against plain loops, and laws of both."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import gptkit
from gptkit.errors import UserError
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

CONTEXT, WIDTH = 4096, 16


def shape(context: int = CONTEXT) -> ModelShape:
    return ModelShape(
        vocab_size=11, context_length=context, d_model=64, n_layers=1, n_heads=4, n_kv_heads=4, d_head=WIDTH,
        d_ff=64,
    )  # fmt: skip


def frequencies(
    name: str, context: int = CONTEXT, length: int = 8, **options: Any
) -> tuple[torch.Tensor, float]:
    made = part("position", {"name": name, **options}, shape(context))
    return made.frequencies(torch.arange(length)[None]), made.strength


def theirs(context: int, length: int | None = None, **parameters: Any) -> tuple[torch.Tensor, float]:
    """The frequencies and the factor on q and k in Hugging Face's library."""
    rope = pytest.importorskip("transformers.modeling_rope_utils")
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=64, num_attention_heads=4, max_position_embeddings=context,
        rope_parameters={"rope_theta": 10000.0, **parameters},
    )  # fmt: skip
    found, strength = rope.ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, "cpu", seq_len=length)
    return found.double(), strength


@pytest.mark.parametrize(
    ("name", "ours", "peer"),
    [
        ("rotary_linear", {"factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        (
            "rotary_yarn",
            {"factor": 4.0, "original_context": 1024},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
        ),
        (
            "rotary_yarn",
            {"factor": 8.0, "original_context": 512, "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False},
            {
                "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512,
                "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False,
            },
        ),
        (
            "rotary_llama3",
            {"factor": 8.0, "original_context": 512, "base": 10000.0},
            {
                "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 512,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            },
        ),
    ],
)  # fmt: skip
def test_frequencies_are_those_of_transformers(name: str, ours: dict, peer: dict) -> None:
    found, strength = frequencies(name, **ours)
    expected, their_strength = theirs(CONTEXT, **peer)
    assert torch.allclose(found, expected, rtol=1e-6, atol=0)  # theirs are of 32 bits
    assert strength == pytest.approx(their_strength, abs=1e-12)


@pytest.mark.parametrize("length", [100, 4096, 5000, 16384])
def test_dynamic_frequencies_are_those_of_transformers(length: int) -> None:
    found, _ = frequencies("rotary_dynamic", length=length, factor=2.0)
    expected, _ = theirs(CONTEXT, length, rope_type="dynamic", factor=2.0)
    assert torch.allclose(found, expected, rtol=1e-6, atol=0)
    plain, _ = frequencies("rotary")
    assert torch.equal(found, plain) == (length <= CONTEXT)


@pytest.mark.parametrize("context", [1024, 4096])
def test_longrope_takes_the_factors_of_its_context(context: int) -> None:
    short, long = [1.0 + i / 8 for i in range(8)], [2.0 + i for i in range(8)]
    options = {"short_factors": short, "long_factors": long, "original_context": 1024}
    found, strength = frequencies("rotary_longrope", context, **options)
    plain, _ = frequencies("rotary")
    chosen = torch.tensor(long if context > 1024 else short, dtype=torch.float64)
    assert torch.allclose(found, plain / chosen, rtol=1e-15, atol=0)
    assert strength == pytest.approx(math.sqrt(1 + math.log(context / 1024) / math.log(1024)), abs=1e-12)
    expected, their_strength = theirs(
        context, context if context > 1024 else 10, rope_type="longrope", short_factor=short, long_factor=long,
        original_max_position_embeddings=1024,
    )  # fmt: skip
    assert torch.allclose(found, expected, rtol=1e-6, atol=0)
    assert strength == pytest.approx(their_strength, abs=1e-12)


def test_ntk_divides_the_slowest_frequency_and_leaves_the_fastest() -> None:
    plain, (found, _) = frequencies("rotary")[0], frequencies("rotary_ntk", factor=8.0)
    assert found[0] == plain[0]
    assert found[-1].item() == pytest.approx(plain[-1].item() / 8, rel=1e-12)


@pytest.mark.parametrize("name", ["rotary_linear", "rotary_ntk", "rotary_yarn", "rotary_dynamic"])
def test_a_factor_of_one_changes_nothing(name: str) -> None:
    found, strength = frequencies(name, factor=1.0)
    assert torch.equal(found, frequencies("rotary")[0])
    assert strength == 1.0


@pytest.mark.parametrize("interleaved", [False, True])
def test_xpos_fades_each_pair_by_distance(interleaved: bool) -> None:
    options = {"name": "xpos", "scale": 8.0, "interleaved": interleaved}
    xpos = part("position", options, shape(32))
    rotary = part("position", {"name": "rotary", "interleaved": interleaved}, shape(32))
    q, k = torch.randn(2, 1, 4, 6, WIDTH, dtype=torch.float64)
    at = torch.tensor([[0, 1, 5, 9, 30, 31]])
    faded_q, faded_k = xpos.rotate(q, k, at, at)
    plain_q, plain_k = rotary.rotate(q, k, at, at)
    for i in range(6):
        for j in range(i + 1):
            total = 0.0
            for n in range(WIDTH):
                pair = n // 2 if interleaved else n % (WIDTH // 2)
                zeta = (2 * pair / WIDTH + 0.4) / 1.4
                fade = zeta ** ((int(at[0, i]) - int(at[0, j])) / 8.0)
                total += float(plain_q[0, 2, i, n] * plain_k[0, 2, j, n]) * fade
            assert float(faded_q[0, 2, i] @ faded_k[0, 2, j]) == pytest.approx(total, abs=1e-11)


@pytest.mark.parametrize(
    "name", ["rotary_linear", "rotary_ntk", "rotary_yarn", "rotary_llama3", "rotary_longrope", "xpos"]
)
def test_cached_decoding_equals_the_full_pass_past_the_context(name: str) -> None:
    words = [f"model/position={name}", "model.n_layers=2", "model.context_length=8", "tokenizer=byte"]
    model = gptkit.build(gptkit.compose(words)).double().eval()
    tokens = torch.randint(0, 256, (2, 20))
    full = model(tokens)
    for cut in range(1, 20, 4):
        caches = model.new_caches(2, 20)
        parts = [model(tokens[:, :cut], caches=caches)]
        parts += [model(tokens[:, i : i + 1], caches=caches) for i in range(cut, 20)]
        assert torch.allclose(torch.cat(parts, dim=1), full, atol=1e-12, rtol=0)


def test_dynamic_turns_hold_in_a_cache_to_the_end_of_the_context() -> None:
    words = ["model/position=rotary_dynamic", "model.n_layers=2", "model.context_length=8", "tokenizer=byte"]
    model = gptkit.build(gptkit.compose(words)).double().eval()
    tokens = torch.randint(0, 256, (2, 12))
    caches, full = model.new_caches(2, 12), model(tokens[:, :8])
    parts = [model(tokens[:, i : i + 1], caches=caches) for i in range(8)]
    assert torch.allclose(torch.cat(parts, dim=1), full, atol=1e-12, rtol=0)
    with pytest.raises(UserError, match="Read the text without a cache"):
        model(tokens[:, 8:9], caches=caches)
    assert not torch.allclose(model(tokens)[:, :8], full, atol=1e-6)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="1 or more"):
        frequencies("rotary_linear", factor=0.5)
    with pytest.raises(UserError, match="below the second"):
        frequencies("rotary_llama3", low_factor=4.0, high_factor=1.0)
    with pytest.raises(UserError, match="8 pairs turn"):
        frequencies("rotary_longrope", short_factors=[1.0])
    with pytest.raises(UserError, match="needs 4 or more"):
        frequencies("rotary_ntk", fraction=0.125)
    with pytest.raises(UserError, match="above 0"):
        frequencies("xpos", scale=0.0)
