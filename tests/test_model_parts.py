"""Positions, norms, networks, embeddings, heads and blocks against loops."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from gptkit.errors import ConfigError, PositionRangeError
from gptkit.model.assemble import part
from gptkit.model.interfaces import PositionalEncoding, roles
from tiny import SIZES, attention, close, normal, scatter, shape, some_tokens, step, tiny

# Positions ------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    positions=st.lists(st.integers(0, 100_000), min_size=1, max_size=6),
    d_model=st.integers(1, 9),
    base=st.sampled_from([10000.0, 10.0, 500000.0]),
)
def test_sinusoidal_is_the_explainers_formula(positions, d_model, base):
    encoding = part("position", {"name": "sinusoidal", "base": base}, shape())
    x = normal(2, len(positions), d_model)
    expected = x.numpy() + np.stack([reference.sinusoidal(p, d_model, base) for p in positions])
    close(encoding.embed(x, torch.tensor([positions])), expected)


def test_sinusoidal_is_exact_in_a_short_type_and_far_away():
    """In 16 bits position 40,001 is not even a number; the table is made before it is rounded."""
    encoding = part("position", "sinusoidal", shape())
    told = encoding.embed(torch.zeros(1, 1, 16, dtype=torch.bfloat16), torch.tensor([[40_001]]))
    exact = torch.from_numpy(reference.sinusoidal(40_001, 16))
    assert told.dtype == torch.bfloat16
    assert torch.equal(told[0, 0], exact.to(torch.bfloat16))


def test_sinusoidal_moves_by_a_turn():
    """e(p + k) is a rotation of e(p) that depends on k alone: why it can tell distance."""
    table = part("position", "sinusoidal", shape()).table(torch.arange(50), 8)
    for pair in range(4):
        sin, cos = table[:, 2 * pair], table[:, 2 * pair + 1]
        angle = 3 / 10000 ** (2 * pair / 8)
        close(sin[3:], sin[:-3] * math.cos(angle) + cos[:-3] * math.sin(angle))


def test_learned_adds_the_row_of_each_position():
    encoding = scatter(part("position", "learned", shape()))
    x, at = normal(2, 3, 16), torch.tensor([[0, 1, 2], [5, 11, 5]])
    table = encoding.weight.detach().numpy()
    expected = np.stack([[x[b, i].numpy() + table[at[b, i]] for i in range(3)] for b in range(2)])
    close(encoding.embed(x, at), expected)
    assert encoding.max_positions == SIZES["context_length"]
    assert part("position", {"name": "learned", "max_positions": 40}, shape()).weight.shape == (40, 16)


def test_learned_refuses_to_go_past_its_end():
    model = tiny(position="learned")
    assert model.max_positions == 12
    model(some_tokens(length=12))
    for run in (
        lambda: model(some_tokens(length=13)),
        lambda: model(some_tokens(length=1), positions=torch.tensor([[12]])),
        lambda: model.loss(some_tokens(length=13), some_tokens(length=13)),
    ):
        with pytest.raises(PositionRangeError, match=r"end at 11; position 12 .*model/position=sinusoidal"):
            run()
    caches = model.new_caches(2, 20)
    model(some_tokens(length=12), caches=caches)
    with pytest.raises(PositionRangeError):
        model(some_tokens(length=1), caches=caches)


@pytest.mark.parametrize("name", ["none", "sinusoidal"])
def test_encodings_without_an_end_go_on(name):
    model = tiny(position=name)
    assert model.max_positions is None
    assert model(some_tokens(length=30)).isfinite().all()


def test_an_encoding_that_says_nothing_changes_nothing():
    encoding: PositionalEncoding = part("position", "none", shape())
    x, q, k, at = normal(1, 4, 16), normal(1, 4, 4, 4), normal(1, 2, 4, 4), torch.arange(4).unsqueeze(0)
    assert encoding.embed(x, at) is x
    assert encoding.rotate(q, k, at, at) == (q, k)
    assert encoding.score_bias(q, k, at, at) is None


# Norms and networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_layer_norm(eps, bias):
    norm = part("norm", {"name": "layer", "eps": eps, "bias": bias}, 16)
    with torch.no_grad():
        norm.weight.copy_(normal(16))
        if bias:
            norm.bias.copy_(normal(16, seed=1))
    norm.double()
    x = normal(2, 3, 16) * 4 + 7
    gain, offset = norm.weight.detach().numpy(), norm.bias.detach().numpy() if bias else None
    close(norm(x), reference.layer_norm(x.numpy(), gain, offset, eps))
    same = norm(torch.full((16,), 3.0, dtype=torch.float64))
    close(same, norm.bias if bias else torch.zeros(16))


def test_no_norm():
    x = normal(2, 3)
    assert part("norm", "none", 3)(x) is x


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", list(reference.ACTIVATIONS))
def test_mlp(activation, bias):
    network = scatter(
        part("feed_forward", {"name": "mlp", "activation": activation, "bias": bias}, shape(d_ff=24))
    )
    x = normal(2, 3, 16) * 2
    weights = reference.weights_of(network)
    expected = reference.mlp(
        x.numpy(), weights("up.weight"), weights("up.bias"), weights("down.weight"), weights("down.bias"),
        activation,
    )  # fmt: skip
    assert network.up.weight.shape == (24, 16)
    assert (network.up.bias is not None) == bias
    close(network(x), expected)


def test_every_activation_that_is_offered_has_a_reference():
    from gptkit.model.feed_forward import ACTIVATIONS

    assert set(ACTIVATIONS) == set(reference.ACTIVATIONS)


def test_the_network_is_four_times_as_wide_unless_told():
    assert part("feed_forward", "mlp", shape()).up.weight.shape == (64, 16)


# Blocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed_forward", ["mlp", "none"])
@pytest.mark.parametrize(
    "kind", ["pre", "post", "parallel", {"name": "parallel", "shared_norm": False}], ids=str
)
def test_blocks_place_norms_and_sums(kind, feed_forward):
    attend = attention("multi_head")
    network = part("feed_forward", feed_forward, shape())
    block = scatter(part("block", kind, attend, network, partial(part, "norm", "layer")))
    x, now = normal(2, 5, 16), step(5)

    def norm(name, y):
        own = getattr(block, f"{name}_norm")
        return torch.from_numpy(
            reference.layer_norm(
                y.detach().numpy(), own.weight.detach().numpy(), own.bias.detach().numpy(), 1e-5
            )
        )

    name = kind if isinstance(kind, str) else kind["name"]
    has_network = feed_forward != "none"
    if name == "pre":
        y = x + attend(norm("attention", x), now)
        y = y + network(norm("feed_forward", y)) if has_network else y
    elif name == "post":
        y = norm("attention", x + attend(x, now))
        y = norm("feed_forward", y + network(y)) if has_network else y
    else:
        y = x + attend(norm("attention", x), now)
        second = "attention" if kind == "parallel" else "feed_forward"
        y = y + network(norm(second, x)) if has_network else y
    close(block(x, now), y.detach())
    expected_norms = 1 if kind == "parallel" or not has_network else 2
    assert sum("norm" in n and n.endswith("weight") for n, _ in block.named_parameters()) == expected_norms
    assert block.needs_final_norm == (name != "post")


@pytest.mark.parametrize("kind", ["pre", "post", "parallel"])
def test_dropout_of_a_block_acts_on_what_sublayers_add(kind):
    block = part("block", {"name": kind, "dropout": 0.999999}, attention("multi_head"),
                 part("feed_forward", "mlp", shape()), partial(part, "norm", "none"))  # fmt: skip
    x = normal(1, 4, 16)
    scatter(block).train()
    close(block(x, step(4)), x)  # nothing is added; nothing of the stream is lost
    assert not torch.equal(block.eval()(x, step(4)), x)


# Embedding and head -------------------------------------------------------------------------------------


def test_embedding_looks_up_rows_and_asks_the_position():
    model = tiny(position="sinusoidal")
    tokens = some_tokens(length=4)
    table = model.embedding.weight.detach().numpy()
    expected = table[tokens] + np.stack([reference.sinusoidal(p, 16) for p in (3, 1, 4, 1)])
    close(model.embedding(tokens, torch.tensor([[3, 1, 4, 1]])), expected)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_head(tied, bias):
    model = tiny(head={"name": "language_model", "tied": tied, "bias": bias}, spread=1.0)
    x = normal(2, 3, 16)
    weights = reference.weights_of(model)
    table = weights("embedding.weight") if tied else weights("head.table")
    assert (weights("head.table") is None) == tied
    assert (weights("head.bias") is None) != bias
    close(model.head(x), reference.linear(x.numpy(), table, weights("head.bias")))
    assert model.n_parameters() == sum(array.size for array in weights.numbers.values())


def test_a_tied_head_sends_its_gradient_to_the_embedding():
    """Of the two uses: the rows of absent tokens get theirs from the head alone."""
    tokens = torch.tensor([[1, 2, 3]])
    tied = tiny()
    tied.loss(tokens, tokens).backward()
    assert tied.embedding.weight.grad.abs().sum(-1).gt(0).all()
    untied = tiny(head={"name": "language_model", "tied": False})
    untied.loss(tokens, tokens).backward()
    assert untied.embedding.weight.grad.abs().sum(-1).gt(0).nonzero().flatten().tolist() == [1, 2, 3]


def test_dropout_of_the_embedding():
    model = tiny(embedding={"name": "token", "dropout": 0.5})
    tokens = some_tokens()
    at = torch.arange(9).unsqueeze(0)
    whole = model.embedding(tokens, at)
    model.train()
    torch.manual_seed(0)
    part_of = model.embedding(tokens, at)
    kept = part_of != 0
    assert 0.3 < kept.double().mean() < 0.7
    close(part_of[kept], (2 * whole)[kept])


def test_roles_say_what_is_decayed():
    model = tiny(head={"name": "language_model", "tied": False, "bias": True})
    found = roles(model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    first = "blocks.0."
    assert {name.removeprefix(first): role for name, role in found.items() if name.startswith(first)} == {
        "attention_norm.weight": "norm", "attention_norm.bias": "norm",
        "feed_forward_norm.weight": "norm", "feed_forward_norm.bias": "norm",
        "attention.qkv.weight": "weight", "attention.qkv.bias": "bias",
        "attention.out.weight": "residual", "attention.out.bias": "bias",
        "feed_forward.up.weight": "weight", "feed_forward.up.bias": "bias",
        "feed_forward.down.weight": "residual", "feed_forward.down.bias": "bias",
    }  # fmt: skip
    assert {name: role for name, role in found.items() if not name.startswith("blocks")} == {
        "embedding.weight": "embedding", "position.weight": "embedding", "norm.weight": "norm",
        "norm.bias": "norm", "head.table": "weight", "head.bias": "bias",
    }  # fmt: skip


def test_multi_head_with_shared_keys_is_refused():
    with pytest.raises(ConfigError, match=r"4 heads its own keys, but model\.n_kv_heads=2.*grouped_query"):
        tiny(attention="multi_head", n_kv_heads=2)
