"""Attention, form by form and kernel by kernel, against loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from gptkit.errors import UserError
from gptkit.model.assemble import part
from gptkit.model.interfaces import Step
from gptkit.model.kernels import attend
from gptkit.model.masks import (
    AllOf,
    AnyOf,
    Causal,
    Document,
    Explicit,
    Full,
    Not,
    Padding,
    Prefix,
    SlidingWindow,
)
from gptkit.model.positions import NoPosition
from tiny import attention, close, normal, some_tokens, step, tiny

KERNELS = ["eager", "sdpa", "flex"]


def _causal(b: int, i: int, j: int) -> bool:
    return j <= i


def _parts(layer) -> dict:
    """The maps of a fused layer, one by one."""
    weights = reference.weights_of(layer)
    named = reference.Weights({f"a.{name}": array for name, array in weights.numbers.items()})
    return reference.split_qkv(named, "a", layer.heads, layer.kv_heads, layer.d_head)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("name", "kv_heads"), [("multi_head", 4), ("grouped_query", 2), ("grouped_query", 1)]
)
def test_heads_side_by_side(name, kv_heads, bias, kernel):
    layer = attention({"name": name, "bias": bias, "kernel": kernel}, n_kv_heads=kv_heads)
    x = normal(2, 7, 16)
    expected = reference.grouped_query(x.numpy(), _parts(layer), 4, kv_heads, _causal, 1 / math.sqrt(4))
    with torch.no_grad():
        close(layer(x, step(7)), expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_width_and_scale_of_a_head_are_free(kernel):
    layer = attention({"name": "multi_head", "scale": 0.7, "kernel": kernel}, d_head=6, n_heads=3)
    assert layer.qkv.weight.shape == (3 * 3 * 6, 16)
    assert layer.out.weight.shape == (16, 18)
    x = normal(1, 5, 16)
    with torch.no_grad():
        close(layer(x, step(5)), reference.grouped_query(x.numpy(), _parts(layer), 3, 3, _causal, 0.7))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bias", [True, False])
def test_summed_heads_is_the_explainers_form(kernel, bias):
    """p'_i = sum over heads of sum_j softmax_j(q_i . k_j / sqrt(m)) v_j, v_j of d_model numbers."""
    layer = attention({"name": "summed_heads", "bias": bias, "kernel": kernel})
    x = normal(2, 6, 16)
    q, k, v = _summed_maps(layer, x.numpy())
    mixed, _ = reference.softmax_attention(q, k, v, _causal, 1 / math.sqrt(4))
    assert v.shape == (2, 4, 6, 16)
    with torch.no_grad():
        close(layer(x, step(6)), mixed.sum(1))


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_unnormalised_is_the_formula_that_the_explainer_calls_false(scale):
    """sum over heads and j of (q_i . k_j) v_j; a forbidden pair counts for nothing."""
    layer = attention({"name": "unnormalised", "scale": scale})
    x = normal(2, 6, 16)
    q, k, v = _summed_maps(layer, x.numpy())
    expected = np.zeros((2, 6, 16))
    for b, h, i, j in np.ndindex(2, 4, 6, 6):
        if j <= i:
            expected[b, i] += scale * math.fsum(q[b, h, i] * k[b, h, j]) * v[b, h, j]
    close(layer(x, step(6)), expected)


def _summed_maps(layer, x):
    weights = reference.weights_of(layer)
    qk = reference.linear(x, weights("qk.weight"), weights("qk.bias"))
    half = qk.shape[-1] // 2
    v = reference.linear(x, weights("value.weight"), weights("value.bias"))
    return *(
        reference.split_heads(half_, 4) for half_ in (qk[..., :half], qk[..., half:])
    ), reference.split_heads(v, 4)


def test_summed_heads_holds_multi_head_as_a_special_case():
    """Value maps of rank d_head, out_h value_h, summed: the same as heads side by side and one map."""
    multi = attention({"name": "multi_head", "bias": False})
    summed = attention("summed_heads")
    with torch.no_grad():
        q, k, v = multi.qkv.weight.chunk(3)
        summed.qk.weight.copy_(torch.cat([q, k]))
        for h in range(4):
            rows = slice(4 * h, 4 * h + 4)
            summed.value.weight[16 * h : 16 * h + 16] = multi.out.weight[:, rows] @ v[rows]
        x = normal(2, 6, 16)
        close(summed(x, step(6)), multi(x, step(6)))


def test_grouped_query_is_multi_head_with_repeated_keys():
    grouped, multi = attention("grouped_query", n_kv_heads=2), attention("multi_head")
    with torch.no_grad():
        for kind in ("weight", "bias"):
            q, k, v = getattr(grouped.qkv, kind).split([16, 8, 8])
            k, v = (m.view(2, 4, -1).repeat_interleave(2, 0).reshape(16, *m.shape[1:]) for m in (k, v))
            getattr(multi.qkv, kind).copy_(torch.cat([q, k, v]))
        multi.out.load_state_dict(grouped.out.state_dict())
        x = normal(2, 6, 16)
        close(grouped(x, step(6)), multi(x, step(6)))


# Every mask against the same mask as a plain condition, through every kernel -------------------------

PADDING = torch.tensor([[False] * 5 + [True] * 2, [True] + [False] * 6])
DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 4, 4, 4]])
PREFIX = torch.tensor([3, 5])
MATRIX = (np.random.default_rng(5).random((7, 7)) < 0.5).astype(int).tolist()
MATRIX[2] = [0] * 7  # person 2 listens to nobody

CONDITIONS = {
    "causal": (Causal(), lambda b, i, j: j <= i),
    "full": (Full(), lambda b, i, j: True),
    "window": (SlidingWindow(window=3), lambda b, i, j: abs(i - j) < 3),
    "prefix": (Prefix(length=4), lambda b, i, j: j <= i or j < int(PREFIX[b])),
    "document": (Document(), lambda b, i, j: bool(DOCUMENTS[b, i] == DOCUMENTS[b, j])),
    "padding": (Padding(), lambda b, i, j: not PADDING[b, j]),
    "explicit": (Explicit(matrix=MATRIX), lambda b, i, j: bool(MATRIX[i][j])),
}
COMPOSED = {
    **CONDITIONS,
    "nobody": (Not(Full()), lambda b, i, j: False),
    "later": (~Causal(), lambda b, i, j: j > i),
    "far, before": (Causal() & ~SlidingWindow(window=3), lambda b, i, j: j <= i and abs(i - j) >= 3),
    "before or near": (Causal() | SlidingWindow(window=2), lambda b, i, j: j <= i or abs(i - j) < 2),
    "causal in documents, unpadded": (
        AllOf([Causal(), Document(), Padding()]),
        lambda b, i, j: j <= i and bool(DOCUMENTS[b, i] == DOCUMENTS[b, j]) and not PADDING[b, j],
    ),
    "either of all": (
        AnyOf([AllOf([Document(), Not(Causal())]), Explicit(matrix=MATRIX)]),
        lambda b, i, j: (bool(DOCUMENTS[b, i] == DOCUMENTS[b, j]) and j > i) or bool(MATRIX[i][j]),
    ),
}


def _attend(mask, kernel, q, k, v, **context):
    return attend(
        q, k, v, step(7, **context), position=NoPosition(None), mask=mask, scale=0.5, kernel=kernel
    )  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", COMPOSED)
def test_masks_through_kernels(name, kernel):
    mask, allows = COMPOSED[name]
    q, k, v = normal(2, 4, 7, 3), normal(2, 2, 7, 3, seed=1), normal(2, 2, 7, 5, seed=2)
    context = {"q_documents": DOCUMENTS, "k_documents": DOCUMENTS, "prefix": PREFIX}
    context["k_padding"] = PADDING if "padd" in name else None
    expected, _ = reference.softmax_attention(q.numpy(), k.numpy(), v.numpy(), allows, 0.5)
    close(_attend(mask, kernel, q, k, v, **context), expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["causal", "full", "window", "nobody"])
def test_what_is_told_to_be_padding_is_hidden_whatever_the_mask(name, kernel):
    mask, allows = COMPOSED[name]
    q, k, v = normal(2, 4, 7, 3), normal(2, 2, 7, 3, seed=1), normal(2, 2, 7, 5, seed=2)
    padding = torch.cat([PADDING[:1], torch.ones(1, 7, dtype=torch.bool)])  # the second row is nothing else
    expected, _ = reference.softmax_attention(
        q.numpy(), k.numpy(), v.numpy(), lambda b, i, j: allows(b, i, j) and not padding[b, j], 0.5
    )
    assert not expected[1].any()
    close(_attend(mask, kernel, q, k, v, k_padding=padding), expected)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])  # flex has no backward on the CPU
@pytest.mark.parametrize("name", ["explicit", "nobody", "later", "padding"])
def test_a_row_that_allows_nothing_gives_zeros_and_no_gradient(name, kernel):
    mask, allows = COMPOSED[name]
    q, k, v = (normal(2, 4, 7, 4, seed=s).requires_grad_() for s in range(3))
    out = _attend(mask, kernel, q, k, v, k_padding=PADDING if name == "padding" else None)
    out.backward(normal(2, 4, 7, 4, seed=9))
    for tensor in (out, q.grad, k.grad, v.grad):
        assert tensor.isfinite().all()
    for b, i in np.ndindex(2, 7):
        if not any(allows(b, i, j) for j in range(7)):
            assert out[b, :, i].eq(0).all()
            assert q.grad[b, :, i].eq(0).all()
    for b, j in np.ndindex(2, 7):
        if not any(allows(b, i, j) for i in range(7)):
            assert k.grad[b, :, j].eq(0).all()
            assert v.grad[b, :, j].eq(0).all()


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_a_bias_gives_an_empty_row_nothing(kernel):
    q, k, v = (normal(2, 4, 7, 4, seed=s).requires_grad_() for s in range(3))
    given_ = {"position": part("position", "alibi", _Heads(4)), "mask": COMPOSED["explicit"][0], "scale": 0.5}
    out = attend(q, k, v, step(7), kernel=kernel, **given_)
    out.sum().backward()
    assert out[:, :, 2].eq(0).all()
    assert all(tensor.isfinite().all() for tensor in (out, q.grad, k.grad, v.grad))


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_empty_rows_in_the_short_types(kernel, dtype):
    q, k, v = (normal(2, 4, 7, 8, seed=s).to(dtype).requires_grad_() for s in range(3))
    out = _attend(COMPOSED["explicit"][0], kernel, q, k, v)
    out.sum().backward()
    assert out[:, :, 2].eq(0).all()
    assert all(tensor.isfinite().all() for tensor in (out, q.grad, k.grad, v.grad))


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["causal", "far, before", "causal in documents, unpadded"])
def test_gradients_of_kernels_are_the_slopes(name, kernel):
    """Central differences of the loops; the gradient is checked as a whole along random directions."""
    mask, allows = COMPOSED[name]
    context = {"q_documents": DOCUMENTS, "k_documents": DOCUMENTS}
    context["k_padding"] = PADDING if "padd" in name else None
    given_ = [normal(2, 4, 7, 3), normal(2, 2, 7, 3, seed=1), normal(2, 2, 7, 3, seed=2)]
    weight = normal(2, 4, 7, 3, seed=7)
    leaves = [tensor.clone().requires_grad_() for tensor in given_]
    (_attend(mask, kernel, *leaves, **context) * weight).sum().backward()
    for index, leaf in enumerate(leaves):
        way, small = normal(*leaf.shape, seed=20 + index), 1e-5
        ends = []
        for sign in (1, -1):
            moved = [t.numpy() for t in given_]
            moved[index] = (given_[index] + sign * small * way).numpy()
            ends.append((reference.softmax_attention(*moved, allows, 0.5)[0] * weight.numpy()).sum())
        slope = (ends[0] - ends[1]) / (2 * small)
        assert float((leaf.grad * way).sum()) == pytest.approx(slope, rel=1e-8, abs=1e-8)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 3), length=st.integers(1, 9), kv_heads=st.integers(1, 3), share=st.integers(1, 3),
    width=st.integers(1, 6), value_width=st.integers(1, 6), window=st.integers(1, 9),
    position=st.sampled_from(["none", "alibi"]),
)  # fmt: skip
def test_kernels_agree_at_any_size(rows, length, kv_heads, share, width, value_width, window, position):
    heads = kv_heads * share
    q, k = normal(rows, heads, length, width), normal(rows, kv_heads, length, width, seed=1)
    v = normal(rows, kv_heads, length, value_width, seed=2)
    where = part("position", position, _Heads(heads))
    bias = None
    if position == "alibi":
        bias = where.bias_of(torch.arange(length)[:, None] - torch.arange(length)).numpy()
    for mask, allows in (
        (Causal(), lambda b, i, j: j <= i),
        (Causal() & SlidingWindow(window=window), lambda b, i, j: j <= i and i - j < window),
    ):
        expected, pattern = reference.softmax_attention(q.numpy(), k.numpy(), v.numpy(), allows, 0.3, bias)
        for kernel in ("eager", "sdpa"):
            now = step(length)
            close(attend(q, k, v, now, position=where, mask=mask, scale=0.3, kernel=kernel), expected)
        recorded = step(length, patterns=[])
        close(attend(q, k, v, recorded, position=where, mask=mask, scale=0.3), expected)
        close(recorded.patterns[0], pattern)


@pytest.mark.parametrize("plain", [True, False])
def test_flex_takes_a_bias_by_distance_and_grouped_heads(plain):
    q, k, v = normal(2, 6, 5, 3), normal(2, 2, 5, 3, seed=1), normal(2, 2, 5, 5, seed=2)
    given = {"position": part("position", "alibi", _Heads(6)), "mask": Causal(), "scale": 0.3}
    at = torch.arange(5).unsqueeze(0) if plain else torch.tensor([[0, 0, 1, 2, 3], [4, 9, 11, 12, 40]])
    flex, eager = (
        attend(q, k, v, Step(at, at, plain=plain), kernel=kernel, **given) for kernel in ("flex", "eager")
    )
    close(flex, eager)


class _Heads:
    """All that a position bias asks of a shape."""

    def __init__(self, heads: int) -> None:
        self.n_heads = heads


@pytest.mark.parametrize("name", ["multi_head", "grouped_query", "summed_heads", "unnormalised"])
def test_asking_for_patterns_changes_no_number(name):
    model = tiny(attention=name, n_kv_heads=2 if name == "grouped_query" else None)
    tokens, patterns = some_tokens(), []
    close(model(tokens, patterns=patterns), model(tokens))
    assert [tuple(p.shape) for p in patterns] == [(2, 4, 9, 9)] * 2
    assert all(p.triu(1).eq(0).all() for p in patterns)
    if name != "unnormalised":
        close(patterns[0].sum(-1), torch.ones(2, 4, 9))


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_dropout_acts_on_the_pattern_in_training_alone(kernel):
    layer = attention({"name": "multi_head", "dropout": 0.5, "kernel": kernel}, "full")
    x = normal(1, 8, 16)
    close(layer(x, step(8)), attention({"name": "multi_head"}, "full")(x, step(8)))
    layer.train()
    torch.manual_seed(0)
    draws = torch.stack([layer(x, step(8)) for _ in range(800)])
    spread = draws.std(0)
    assert spread.min() > 0
    layer.eval()
    error = (draws.mean(0) - layer(x, step(8))).abs() / (spread / 800**0.5)
    assert error.max() < 5  # of its standard error: dropped weights are made up for


@pytest.mark.parametrize("name", ["multi_head", "summed_heads"])
def test_flex_refuses_what_it_cannot_do(name):
    with pytest.raises(UserError, match=r"dropout.*sdpa"):
        attention({"name": name, "kernel": "flex", "dropout": 0.1})
    layer = attention({"name": name, "kernel": "flex"})
    with pytest.raises(UserError, match=r"(?s)CPU.*kernel=sdpa"):
        layer(normal(1, 4, 16), step(4))


def test_long_and_uneven_rows_take_the_same_fast_path():
    """Fused kernels work in blocks; lengths around their edges must not show."""
    for length in (31, 32, 33, 129):
        q, k, v = normal(1, 2, length, 8), normal(1, 1, length, 8, seed=1), normal(1, 1, length, 8, seed=2)
        now = {"position": NoPosition(None), "mask": Causal(), "scale": 0.4}
        close(attend(q, k, v, step(length), **now), attend(q, k, v, step(length), kernel="eager", **now))
