"""Operations counted without numbers are those of real passes, as torch's own counter finds them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from gptkit.compose import compose
from gptkit.errors import PositionRangeError
from gptkit.model import cost
from gptkit.model.assemble import build, part
from gptkit.model.gpt import GPT
from gptkit.model.interfaces import FeedForward
from tiny import some_tokens, tiny

EAGER = {"name": "multi_head", "kernel": "eager"}  # torch's counter knows no fused attention of the CPU
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"attention": EAGER},
    "one layer": {"attention": EAGER, "n_layers": 1},
    "no layers": {"n_layers": 0},
    "no layers, untied": {"n_layers": 0, "head": {"name": "language_model", "tied": False, "bias": True}},
    "untied": {"attention": EAGER, "head": {"name": "language_model", "tied": False}},
    "attention only": {"attention": EAGER, "feed_forward": "none", "norm": "none"},
    "two kv heads": {"attention": {"name": "grouped_query", "kernel": "eager"}, "n_kv_heads": 2},
    "one kv head": {"attention": {"name": "grouped_query", "kernel": "eager"}, "n_kv_heads": 1},
    "summed heads": {"attention": {"name": "summed_heads", "kernel": "eager"}},
    "unnormalised": {"attention": "unnormalised"},
    "wide heads": {"attention": EAGER, "d_head": 7, "d_ff": 33},
    "post": {"attention": EAGER, "block": "post"},
    "parallel": {"attention": EAGER, "block": "parallel"},
    "sinusoidal": {"attention": EAGER, "position": "sinusoidal"},
    "rotary": {"attention": EAGER, "position": "rotary"},
    "alibi": {"attention": EAGER, "position": "alibi"},
    "window": {"attention": EAGER, "mask": ["causal", {"name": "sliding_window", "window": 3}]},
    "given": {"attention": EAGER, "mask": [{"name": "explicit", "matrix": [[1] * 12] * 12}]},
    "mixed": {"attention": EAGER, "layers": {"1": {"attention": "unnormalised", "feed_forward": "none"}}},
}


def measured(model: GPT, tokens: int, backward: bool) -> int:
    """Operations of a real pass over one row."""
    given = some_tokens(1, tokens, vocab_size=model.shape.vocab_size)
    with FlopCounterMode(display=False) as counter:
        logits = model(given)
        if backward:
            F.cross_entropy(logits.flatten(0, 1), given.flatten()).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("sizes", MODELS.values(), ids=MODELS.keys())
def test_as_many_as_a_real_pass(sizes: dict[str, Any]) -> None:
    model = tiny(**sizes)
    for tokens in (1, 9):
        forward = cost.flops_per_token(model, tokens, backward=False) * tokens
        assert forward == measured(model, tokens, backward=False)
    assert cost.flops_per_token(model, 9) * 9 == measured(model, 9, backward=True)


@settings(max_examples=10, deadline=None)
@given(
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2), (6, 3)]),
    d_head=st.integers(1, 9),
    d_model=st.integers(1, 20),
    d_ff=st.integers(1, 40),
    layers=st.integers(0, 3),
    tokens=st.integers(1, 12),
    tied=st.booleans(),
)
def test_as_many_as_a_real_pass_at_any_size(
    heads: tuple[int, int], d_head: int, d_model: int, d_ff: int, layers: int, tokens: int, tied: bool
) -> None:
    model = tiny(
        attention={"name": "grouped_query", "kernel": "eager"},
        n_heads=heads[0], n_kv_heads=heads[1], d_head=d_head, d_model=d_model, d_ff=d_ff, n_layers=layers,
        head={"name": "language_model", "tied": tied},
    )  # fmt: skip
    counted = cost.flops_per_token(model, tokens) * tokens
    assert counted == pytest.approx(measured(model, tokens, backward=True), rel=1e-12)


def test_gpt2_by_hand() -> None:
    model = build(compose(["model=gpt2", "tokenizer=byte"]), vocab_size=50257, device="meta")
    maps = 12 * 12 * 768 * 768 + 50257 * 768  # four maps of attention, eight of the network, and the head
    reading = 12 * 4 * 1024 * 768  # layers, two products of two operations, keys, numbers of all heads
    assert cost.flops_per_token(model) == 3 * (2 * maps + reading)
    assert cost.flops_per_token(model, 10, backward=False) == 2 * maps + 12 * 4 * 10 * 768
    found = cost.operations(model)
    assert sum(found.reading.values()) == reading
    assert found.visible == reading * 1025 / 2048
    assert found.by_part()["head"] == 2 * 50257 * 768


@pytest.mark.parametrize("kernel", ["sdpa", "eager", "flex"])
def test_every_kernel_costs_the_same(kernel: str) -> None:
    for name, kv_heads in (("grouped_query", 2), ("summed_heads", None)):
        asked = tiny(attention={"name": name, "kernel": kernel}, n_kv_heads=kv_heads, position="alibi")
        eager = tiny(attention={"name": name, "kernel": "eager"}, n_kv_heads=kv_heads)
        assert cost.flops_per_token(asked, 8, backward=False) * 8 == measured(eager, 8, backward=False)


class Gated(FeedForward):
    """A stranger's network: bare parameters, an einsum, and a map of low rank made on the way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(width, 3 * width, dtype=torch.float64))
        self.left = nn.Parameter(torch.randn(3 * width, 2, dtype=torch.float64))
        self.right = nn.Parameter(torch.randn(2, width, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("btd,de->bte", x, self.gate).sigmoid() @ (self.left @ self.right)


def test_a_part_that_nobody_knows() -> None:
    model = tiny(attention=EAGER)
    model.blocks[0].feed_forward = Gated(16)
    model.blocks[1].attention.out = nn.Sequential(nn.Linear(16, 5), nn.Linear(5, 16)).double()
    assert cost.flops_per_token(model, 9) * 9 == pytest.approx(measured(model, 9, backward=True))
    found = cost.operations(model, 9)
    assert not found.guessed
    assert sum(found.reading.values()) == 2 * 4 * 9 * 16  # products of weights alone are no reading


class Routed(FeedForward):
    """A network that looks at its numbers before it knows what to multiply."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_put((x.sum(-1) > 0,), self.map(x[x.sum(-1) > 0]))


class Telling(Routed):
    """One that says what it costs."""

    def flops(self, keys: int) -> float:
        return 0.5 * 2 * self.map.weight.numel() + keys


def test_a_part_that_cannot_run_without_numbers_is_counted_by_its_weights() -> None:
    model = tiny(n_layers=1)
    rest = cost.flops_per_token(tiny(n_layers=1, feed_forward="none"), 9, backward=False)
    model.blocks[0].feed_forward = Routed(16)
    assert cost.operations(model, 9).guessed == ("feed_forward",)
    assert cost.flops_per_token(model, 9, backward=False) == rest + 2 * 16 * 16
    assert cost.memory(model).activations > 0


def test_a_part_may_say_what_it_costs() -> None:
    model = tiny(n_layers=1)
    rest = cost.flops_per_token(tiny(n_layers=1, feed_forward="none"), 9, backward=False)
    model.blocks[0].feed_forward = Telling(16)
    assert cost.operations(model, 9).guessed == ()
    assert cost.flops_per_token(model, 9, backward=False) == rest + 16 * 16 + 9


def test_parts_of_a_block_of_ones_own_are_counted() -> None:
    model = tiny(n_layers=1, attention=EAGER)
    plain = model.blocks[0]

    class Doubled(type(plain)):
        def forward(self, x: Tensor, step: Any) -> Tensor:
            return super().forward(super().forward(x, step), step)

    plain.__class__ = Doubled
    assert cost.flops_per_token(model, 9, backward=False) * 9 == measured(model, 9, backward=False)


def test_counting_leaves_the_model_as_it_was() -> None:
    model = tiny(layers={"0": {"mask": "full", "position": "none"}}, position="rotary").train()
    given = some_tokens()
    before = model(given)
    held = {name: dict(vars(module)) for name, module in model.named_modules()}
    cost.operations(model)
    cost.memory(model)
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == held
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())
    assert torch.equal(model(given), before)


def test_a_compiled_model_is_counted() -> None:
    model = tiny()
    model.compile(backend="eager")
    assert cost.flops_per_token(model, 9) == cost.flops_per_token(tiny(), 9)


def test_positions_that_cannot_be_told_are_refused() -> None:
    with pytest.raises(PositionRangeError):
        cost.flops_per_token(tiny(context_length=8), 9)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("causal", 55 / 100),
        ("full", 1.0),
        ("document", 1.0),
        ([], 1.0),
        (["causal", {"name": "sliding_window", "window": 2}], 19 / 100),
        ([{"name": "explicit", "matrix": [[1, 0], [1, 1]]}], 3 / 4),
    ],
)
def test_the_share_that_a_mask_leaves(mask: Any, expected: float) -> None:
    assert cost.visible_share(part("mask", mask), 10) == pytest.approx(expected, rel=1e-12)


def test_the_share_of_a_long_text_is_sampled() -> None:
    assert cost.visible_share(part("mask", "causal"), 100_000) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_where_a_mask_ends(size: int) -> None:
    mask = part("mask", [{"name": "explicit", "matrix": [[1] * size] * size}, "causal"])
    assert cost.mask_end(mask, 100) == size
    assert cost.mask_end(mask, size) == size
    assert cost.mask_end(part("mask", "causal"), 100) == 100


def test_each_layer_by_its_own_mask() -> None:
    model = tiny(layers={"0": {"mask": "full"}})
    found = cost.operations(model, 10)
    each = 4 * 10 * 16
    assert sum(found.reading.values()) == 2 * each
    assert found.visible == pytest.approx(each * (1 + 0.55), rel=1e-12)
