"""Parameters and memory are those of real models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from gptkit.compose import compose
from gptkit.model import cost
from gptkit.model.assemble import build
from gptkit.model.gpt import GPT
from test_cost_operations import MODELS
from tiny import some_tokens, tiny


@pytest.mark.parametrize("sizes", MODELS.values(), ids=MODELS.keys())
def test_parameters_by_part_are_all_parameters(sizes: dict[str, Any]) -> None:
    model = tiny(**sizes)
    unique = {id(p): p.numel() for p in model.parameters()}
    counts = cost.parameters_by_part(model)
    assert sum(counts.values()) == sum(unique.values()) == model.n_parameters()
    assert counts["embedding"] == model.embedding.weight.numel()
    tied = model.head.weight is model.embedding.weight
    own = sum(p.numel() for p in model.head.parameters())
    assert counts.get("head", 0) == own
    assert tied == (own == 0)


def test_gpt2_has_its_published_size() -> None:
    sizes = {
        "gpt2": 124_439_808,
        "gpt2_medium": 354_823_168,
        "gpt2_large": 774_030_080,
        "gpt2_xl": 1_557_611_200,
    }
    for name, expected in sizes.items():
        model = build(compose([f"model={name}", "tokenizer=byte"]), vocab_size=50257, device="meta")
        assert sum(cost.parameters_by_part(model).values()) == expected


def test_a_layer_with_positions_of_its_own() -> None:
    model = tiny(position="none", layers={"1": {"position": "alibi", "feed_forward": "none"}})
    counts = cost.parameters_by_part(model)
    assert counts["feed_forward"] == sum(p.numel() for p in model.blocks[0].feed_forward.parameters())
    norms = [p.numel() for name, p in model.named_parameters() if "norm" in name]
    assert counts["norm"] == sum(norms)


@pytest.mark.parametrize("sizes", MODELS.values(), ids=MODELS.keys())
def test_the_cache_is_as_large_as_one_that_was_filled(sizes: dict[str, Any]) -> None:
    model = tiny(**sizes)
    caches = model.new_caches(1, 12, dtype=torch.float32)
    model.float()(some_tokens(1, 12), caches=caches)
    assert cost.cache_bytes(model, 12) == caches.bytes
    found = cost.memory(model, length=12)
    assert found.cache == caches.bytes
    assert found.cache_per_token * 12 == caches.bytes


def test_fewer_heads_of_keys_make_a_smaller_cache() -> None:
    attention = "grouped_query"
    sizes = [cost.cache_bytes(tiny(attention=attention, n_kv_heads=n), 5) for n in (1, 2, 4)]
    assert sizes == [sizes[0], 2 * sizes[0], 4 * sizes[0]]
    assert sizes[0] == 2 * 2 * 4 * 5 * 4  # keys and values, layers, numbers of a head, tokens, bytes


def test_weights_gradients_and_moments() -> None:
    model = tiny()
    for parameter in model.position.parameters():
        parameter.requires_grad_(False)
    found = cost.memory(model, batch=3)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert found.weights == 4 * sum(p.numel() for p in model.parameters())
    assert (found.gradients, found.moments) == (4 * learning, 8 * learning)
    assert found.training == found.weights + found.gradients + found.moments + found.activations
    assert found.decoding == found.weights + found.cache


def kept_by_autograd(model: GPT, batch: int, tokens: int) -> int:
    """Bytes that a real step keeps, parameters apart."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    given = some_tokens(batch, tokens, vocab_size=model.shape.vocab_size)
    parameters.add(given.untyped_storage().data_ptr())
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.loss(given, given)
    found = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    loss.backward()
    return found


@pytest.mark.parametrize("block", ["pre", "post", "parallel"])
@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_activations_are_about_what_a_real_step_keeps(block: str, position: str) -> None:
    sizes = {"context_length": 32, "d_model": 48, "n_heads": 4, "block": block, "position": position}
    model = tiny(**sizes).float().train()
    assert cost.memory(model, batch=3).activations == pytest.approx(kept_by_autograd(model, 3, 32), rel=0.03)


def test_a_long_context_keeps_no_pattern() -> None:
    short, long = (cost.memory(tiny(context_length=n), length=n).activations for n in (64, 512))
    assert long < 8.5 * short


def test_more_rows_keep_more() -> None:
    one, four = (cost.memory(tiny(), batch=n).activations for n in (1, 4))
    assert 3.5 * one < four < 4.5 * one


def test_a_vocabulary_that_is_scored_in_chunks_costs_no_logits() -> None:
    model = build(
        {"model": {"context_length": 512, "d_model": 8, "n_heads": 1, "n_layers": 1}}, vocab_size=50257
    )
    assert cost.memory(model).activations < 512 * 50257
