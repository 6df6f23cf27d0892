"""Masks against plain conditions on pairs of numbers, alone and composed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptkit.errors import ConfigError, PositionRangeError
from gptkit.model.assemble import part
from gptkit.model.interfaces import MaskContext
from gptkit.model.masks import (
    AllOf,
    AnyOf,
    Causal,
    Document,
    Explicit,
    Full,
    Padding,
    Prefix,
    SlidingWindow,
    dense,
)
from tiny import close, some_tokens, tiny

ROWS, LENGTH = 2, 6
_random = np.random.default_rng(3)
FACTS = {
    "padding": _random.random((ROWS, LENGTH)) < 0.4,
    "documents": _random.integers(0, 3, (ROWS, LENGTH)),
    "prefix": np.array([0, 4]),
    "matrix": (_random.random((LENGTH, LENGTH)) < 0.5).astype(int),
}
CONTEXT = MaskContext(
    torch.tensor(FACTS["padding"]), torch.tensor(FACTS["documents"]), torch.tensor(FACTS["documents"]),
    torch.tensor(FACTS["prefix"]),
)  # fmt: skip

BASIC = [
    (Causal(), lambda b, i, j: j <= i),
    (Full(), lambda b, i, j: True),
    (Padding(), lambda b, i, j: not FACTS["padding"][b, j]),
    (Document(), lambda b, i, j: FACTS["documents"][b, i] == FACTS["documents"][b, j]),
    (Prefix(), lambda b, i, j: j <= i or j < FACTS["prefix"][b]),
    (Explicit(matrix=FACTS["matrix"].tolist()), lambda b, i, j: FACTS["matrix"][i, j] == 1),
    *((SlidingWindow(window=w), lambda b, i, j, w=w: i - w < j < i + w) for w in (1, 2, 5, 50)),
]


def _compose(pair_or_more):
    return st.one_of(
        st.tuples(pair_or_more, pair_or_more).map(
            lambda two: (two[0][0] & two[1][0], lambda b, i, j: two[0][1](b, i, j) and two[1][1](b, i, j))
        ),
        st.tuples(pair_or_more, pair_or_more).map(
            lambda two: (two[0][0] | two[1][0], lambda b, i, j: two[0][1](b, i, j) or two[1][1](b, i, j))
        ),
        pair_or_more.map(lambda one: (~one[0], lambda b, i, j: not one[1](b, i, j))),
        st.lists(pair_or_more, min_size=1, max_size=3).map(
            lambda many: (AllOf([m for m, _ in many]), lambda b, i, j: all(a(b, i, j) for _, a in many))
        ),
        st.lists(pair_or_more, min_size=1, max_size=3).map(
            lambda many: (AnyOf([m for m, _ in many]), lambda b, i, j: any(a(b, i, j) for _, a in many))
        ),
    )


TREES = st.recursive(st.sampled_from(BASIC), _compose, max_leaves=6)


def _matrix(mask, context=CONTEXT):
    at = torch.arange(LENGTH).unsqueeze(0)
    return dense(mask, at, at, context).expand(ROWS, LENGTH, LENGTH)


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_any_composition_is_the_logic_of_its_parts(tree):
    mask, allows = tree
    matrix = _matrix(mask)
    for b, i, j in np.ndindex(ROWS, LENGTH, LENGTH):
        assert bool(matrix[b, i, j]) == bool(allows(b, i, j)), (mask, b, i, j)


@settings(max_examples=150, deadline=None)
@given(TREES, st.booleans())
def test_what_a_mask_claims_of_itself_is_true(tree, told):
    """`is_causal`, `allows_self` and `applies` choose fast paths, so a false claim is a wrong result."""
    mask, _ = tree
    context = CONTEXT if told else MaskContext()
    matrix = _matrix(mask, context)
    if mask.causal_in(context):
        assert torch.equal(matrix, torch.ones_like(matrix).tril())
    if mask.allows_self:
        assert matrix.diagonal(dim1=1, dim2=2).all()
    if not mask.applies(context):
        assert matrix.all()


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_one_pair_at_a_time_says_the_same_as_the_matrix(tree):
    """FlexAttention asks with single numbers."""
    mask, _ = tree
    matrix = _matrix(mask)
    for b, i, j in [(0, 0, 0), (1, 2, 3), (0, 5, 1), (1, 4, 4)]:
        one = MaskContext(
            CONTEXT.k_padding[b, j], CONTEXT.q_documents[b, i], CONTEXT.k_documents[b, j], CONTEXT.prefix[b]
        )
        assert bool(mask.allows(torch.tensor(i), torch.tensor(j), one)) == bool(matrix[b, i, j])


def test_a_list_means_and():
    listed = part("mask", ["causal", {"name": "sliding_window", "window": 2}, "padding"])
    assert torch.equal(_matrix(listed), _matrix(Causal() & SlidingWindow(window=2) & Padding()))
    by_name = part("mask", {"causal": {}, "sliding_window": {"window": 2}, "padding": None})
    assert torch.equal(_matrix(by_name), _matrix(listed))
    assert _matrix(part("mask", [])).all()
    assert isinstance(part("mask", "causal"), Causal)


def test_the_fast_path_is_taken_where_it_may_be():
    assert AllOf([Causal(), Document(), Padding()]).causal_in(MaskContext())
    assert not AllOf([Causal(), Document()]).causal_in(CONTEXT)
    assert not (Causal() & SlidingWindow(window=3)).causal_in(MaskContext())
    assert not (~Causal()).causal_in(MaskContext())
    assert not AllOf([Document(), Padding()]).applies(MaskContext())


def test_a_prefix_from_the_batch_stands_before_the_option():
    mask = Prefix(length=3)
    assert _matrix(mask, MaskContext())[0, 0].tolist() == [True] * 3 + [False] * 3
    assert _matrix(mask)[1, 0].tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("mask", [["explicit"], ["causal", "explicit"]])
@pytest.mark.parametrize("kernel", ["sdpa", "eager", "flex"])
def test_a_text_longer_than_the_matrix_is_told_so(mask, kernel):
    given_ = {"explicit": {"matrix": np.eye(4, dtype=int).tolist()}}
    model = tiny(
        mask={name: given_.get(name, {}) for name in mask}, attention={"name": "multi_head", "kernel": kernel}
    )
    with torch.no_grad():
        model(some_tokens(length=4))
        with pytest.raises(PositionRangeError, match=r"4 x 4, but position 5.*larger matrix"):
            model(some_tokens(length=6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"explicit": {"matrix": []}}, r"model\.mask.*0 rows.*at least 1"),
        ({"explicit": {"matrix": [[1, 0], [1]]}}, r"2 rows; each must hold 2"),
        ({"explicit": {"matrix": [[1, 0, 1], [1, 1, 0]]}}, r"2 rows; each must hold 2"),
        ({"explicit": {"matrix": [[1, 2], [0, 1]]}}, r"other than 0 \(may not read\) and 1"),
        ({"explicit": {}}, r"model\.mask\.explicit\.matrix: 'explicit' needs it"),
        ({"explicit": {"matrix": "1 0"}}, r"model\.mask\.explicit\.matrix: expected a list.*text '1 0'"),
        ({"sliding_window": {"window": 0}}, r"window=0.*at least itself"),
        ({"causal": {"window": 3}}, r"'causal' takes no option 'window'.*sliding_window"),
        ({"slidng_window": {}}, r"Did you mean 'sliding_window'\?"),
    ],
)
def test_misuse_is_explained(options, message):
    with pytest.raises(ConfigError, match=message):
        tiny(mask=options)


def test_a_model_reads_only_what_the_matrix_allows():
    """Alice, Bob, Carol: Carol hears nobody, and nobody hears Bob but himself."""
    matrix = [[1, 0, 1], [1, 1, 1], [0, 0, 0]]
    model = tiny(mask={"explicit": {"matrix": matrix}}, position="none", n_layers=1)
    tokens = torch.tensor([[3, 8, 5]])
    logits = model(tokens)
    other = tokens.clone()
    other[0, 1] = 11
    changed = model(other)
    assert torch.equal(logits[:, [0, 2]], changed[:, [0, 2]])
    assert not torch.equal(logits[:, 1], changed[:, 1])
    alone = tiny(mask={"explicit": {"matrix": [[0]]}}, position="none", n_layers=1)
    close(logits[:, 2:], alone(tokens[:, 2:]))
    model.loss(tokens, tokens).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
