"""Numbers that make no sense as an option of a part: it refuses them by name, or computes with them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
import torch

from gptkit import registry, schema
from gptkit.errors import ConfigError, UserError
from gptkit.model import assemble
from gptkit.signature import Option

SIZES = {"context_length": 8, "d_model": 16, "n_layers": 1, "n_heads": 2, "vocab_size": 11}
PARTS = [
    (slot, name)
    for slot in registry.SLOTS
    if slot.startswith("model.")
    for name in registry.names(slot)
    if registry.find(slot, name).declaration.options
]


def odd(option: Option) -> Iterator[Any]:
    """Values of the option's type at and below nought."""
    kinds = {option.type, *(() if get_origin(option.type) is list else get_args(option.type))}
    listed = {get_args(kind)[0] for kind in kinds if get_origin(kind) is list}
    for kind in (int, float):
        yield from (kind(-1), kind(0)) if kind in kinds else ()
        yield from ([kind(-1)], [kind(0)], []) if kind in listed else ()


def built(slot: str, name: str, options: dict[str, Any]) -> torch.nn.Module:
    part = {"causal": {}, name: options} if registry.SLOTS[slot].many else {"name": name, **options}
    model = {**SIZES, slot.removeprefix("model."): part}
    return assemble.build(schema.check({"seed": 1, "model": model}))


def is_finite(model: Any) -> bool:
    """Whether a pass forward and back gives numbers alone."""
    tokens = torch.arange(16).view(2, 8) % 11
    loss = model.loss(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    loss.backward()
    return all(
        t.isfinite().all() for t in [loss, *(p.grad for p in model.parameters() if p.grad is not None)]
    )


@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_an_odd_number_is_refused_or_computed_with(slot: str, name: str) -> None:
    warnings.simplefilter("ignore")  # of parts that are tried out, such as an initial weight of nought
    broken = []
    for option in registry.find(slot, name).declaration.options:
        for value in odd(option):
            try:
                model = built(slot, name, {option.name: value})
            except UserError:
                continue
            broken += [] if is_finite(model) else [(option.name, value)]
    assert broken == []


@pytest.mark.parametrize(
    ("slot", "name", "option", "value"),
    [
        ("model.position", "sinusoidal", "base", -1.0),
        ("model.position", "learned", "max_positions", 0),
        ("model.position", "rotary", "base", 0.0),
        ("model.position", "rotary_yarn", "beta_slow", 0.0),
        ("model.position", "rotary_longrope", "original_context", 1),
        ("model.norm", "layer", "eps", -1.0),
        ("model.norm", "rms", "eps", -1e-6),
        ("model.attention", "multi_head", "scale", 0.0),
        ("model.attention", "multi_head", "dropout", 1.0),
        ("model.attention", "latent", "kv_rank", 0),
        ("model.block", "pre", "dropout", -0.1),
        ("model.embedding", "token", "dropout", 1.0),
        ("model.feed_forward", "mixture_of_experts", "z_penalty", -1.0),
        ("model.init", "gpt2", "std", -1.0),
        ("model.mask", "prefix", "length", -1),
    ],
)
def test_what_is_refused_is_named_with_its_range(slot: str, name: str, option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{slot}\.{option}: expected .*, got {value}\.$"):
        built(slot, name, {option: value})


@pytest.mark.parametrize(
    ("slot", "name", "option", "value"),
    [
        ("tokenizer", "word", "max_words", -1),
        ("tokenizer", "word", "min_count", 0),
        ("callback", "early_stop", "patience", 0),
        ("callback", "time_limit", "minutes", -1.0),
        ("logger", "wandb", "finish_timeout", -1.0),
        ("optimizer", "adamw", "eps", -1.0),
        ("optimizer", "schedule_free", "lr", -1.0),
        ("schedule", "wsd", "decay_fraction", 2.0),
    ],
)
def test_other_parts_name_what_they_refuse(slot: str, name: str, option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^{slot}(\.{name})?\.{option}: expected .*, got {value}\.$"):
        registry.load(slot, name)(**{option: value})


@pytest.mark.parametrize(
    ("slot", "name"),
    [
        (slot, name)
        for slot in (*dict(PARTS), "optimizer", "schedule", "callback")
        for name in registry.names(slot)
    ],
)
def test_a_part_names_all_that_it_refuses_at_once(slot: str, name: str) -> None:
    warnings.simplefilter("ignore")

    def refused(options: dict[str, Any]) -> set[str]:
        try:
            if slot.startswith("model."):
                built(slot, name, options)
            else:
                registry.load(slot, name)(**options)
        except ConfigError as error:
            return {problem.key.rpartition(".")[2] for problem in error.problems}
        except UserError:
            pass
        return set()

    wrong = {
        option.name: value
        for option in registry.find(slot, name).declaration.options
        for value in odd(option)
        if option.name in refused({option.name: value})
    }
    assert not wrong or refused(wrong) == set(wrong)


def test_null_is_offered_only_where_it_may_stand() -> None:
    with pytest.raises(ConfigError, match=r"a whole number of at least 1, got 0\.$"):
        built("model.position", "rotary_llama3", {"original_context": 0})


def test_all_parts_of_a_model_are_looked_at_before_one_refusal_is_told() -> None:
    model = {
        "position": {"name": "sinusoidal", "base": -1.0},
        "attention": {"name": "multi_head", "scale": -1.0},
        "mask": {"sliding_window": {"window": 0}},
        "norm": {"name": "layer", "eps": -1.0},
        "block": {"name": "pre", "dropout": 2.0},
        "embedding": {"name": "token", "dropout": -1.0},
        "init": {"name": "gpt2", "std": -1.0},
        "layers": {"0::2": {"norm": {"name": "rms", "eps": -2.0}, "mask": {"sliding_window": {"window": 0}}}},
    }
    with pytest.raises(ConfigError) as caught:
        assemble.build({"model": {**SIZES, **model}})
    assert [problem.key.removeprefix("model.") for problem in caught.value.problems] == [
        "position.base", "mask", "attention.scale", "norm.eps", "block.dropout", "layers.0::2.mask",
        "layers.0::2.norm.eps", "embedding.dropout", "init.std",
    ]  # fmt: skip
