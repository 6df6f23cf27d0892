"""Batch order: a function of the seed and the step that loses and doubles nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptkit.errors import DataError
from gptkit.text import batches
from gptkit.text.batches import BatchOrder, Permutation, batch, evaluation_windows, stable_hash
from gptkit.text.splits import Split


def plain_rounds(value: int, bits: int, keys: list[int]) -> int:
    """The Feistel rounds in whole numbers, without numpy."""
    mask, word = (1 << bits) - 1, (1 << 64) - 1
    left, right = value >> bits, value & mask
    for key in keys:
        mixed = (right + key) & word
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & word
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & word
        left, right = right, left ^ ((mixed ^ (mixed >> 31)) & mask)
    return (left << bits) | right


def plain_inverse(value: int, bits: int, keys: list[int]) -> int:
    """The rounds undone: swapping the halves turns the network round."""
    mask = (1 << bits) - 1
    swapped = ((value & mask) << bits) | (value >> bits)
    back = plain_rounds(swapped, bits, keys[::-1])
    return ((back & mask) << bits) | (back >> bits)


@given(size=st.integers(1, 3000), key=st.integers(0, 2**62))
@settings(max_examples=150, deadline=None)
def test_every_index_is_met_once(size, key):
    assert sorted(Permutation(size, key)(np.arange(size)).tolist()) == list(range(size))


@given(size=st.integers(2**20 + 1, 2**40), key=st.integers(0, 2**62), data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_large_permutation_can_be_undone(size, key, data):
    """An inverse exists for each index, so no two indices meet; no table stands behind it."""
    order = Permutation(size, key)
    assert order.table is None
    index = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20))
    found = order(np.asarray(index))
    keys = [int(key) for key in order.keys]
    for start, end in zip(index, found.tolist(), strict=True):
        assert 0 <= end < size
        assert order(np.asarray([start])).tolist() == [end]
        back = plain_inverse(end, order.bits, keys)
        while back >= size:
            back = plain_inverse(back, order.bits, keys)
        assert back == start


def test_tables_and_blocks_hold_what_is_computed(monkeypatch):
    kept = Permutation(5000, 7)(np.arange(5000))
    monkeypatch.setattr(batches, "_TABLE", 0)
    for index in (np.arange(5000), np.arange(4096, 5000), np.asarray([4999, 4095]), np.asarray([3, 1])):
        assert np.array_equal(Permutation(5000, 7)(index), kept[index])


@pytest.mark.parametrize("size", [3, 7, 40])
def test_every_place_is_as_likely_for_every_index(size):
    """Chi-squared of (index, place) counts over keys, within six standard deviations."""
    draws = 3000
    counts = np.zeros((size, size))
    for number in range(draws):
        counts[np.arange(size), Permutation(size, stable_hash("test", number))(np.arange(size))] += 1
    free = (size - 1) ** 2
    statistic = ((counts - draws / size) ** 2 / (draws / size)).sum()
    assert statistic < free + 6 * (2 * free) ** 0.5


@given(
    n_tokens=st.integers(9, 2000),
    context=st.integers(1, 8),
    size=st.integers(1, 70),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 50),
)
@settings(max_examples=200, deadline=None)
def test_an_epoch_reads_each_window_once(n_tokens, context, size, seed, epoch):
    order = BatchOrder(n_tokens, context, size, seed)
    first, last = epoch * order.windows, (epoch + 1) * order.windows
    steps = range(first // size, (last - 1) // size + 1)
    starts = np.concatenate([order.starts(step) for step in steps])
    starts = np.sort(starts[first - steps[0] * size :][: order.windows])
    assert np.array_equal(starts, starts[0] + context * np.arange(order.windows))
    assert starts[0] >= 0
    assert starts[-1] + context < n_tokens
    assert n_tokens - order.windows * context < 2 * context + 1 or order.windows == 1


def test_every_token_but_the_first_is_a_target_in_some_epoch():
    n_tokens, context = 43, 8
    seen = set()
    for step in range(200):
        order = BatchOrder(n_tokens, context, 4, seed=3)
        for start in order.starts(step):
            seen.update(range(start + 1, start + context + 1))
    assert seen == set(range(1, n_tokens))


def test_borders_move_from_epoch_to_epoch():
    order = BatchOrder(10_000, 64, order_size := 154, seed=1)
    assert order.windows == order_size + 1
    assert len({int(order.starts(epoch)[0]) % 64 for epoch in range(20)}) > 10


@given(step=st.integers(0, 10**9), seed=st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_a_step_needs_no_past(step, seed):
    walked = BatchOrder(5000, 16, 12, seed)
    walked.starts(max(0, step - 1))
    walked.starts(step + 1)
    assert np.array_equal(walked.starts(step), BatchOrder(5000, 16, 12, seed).starts(step))


def test_seeds_and_epochs_give_other_orders():
    order = BatchOrder(100_000, 10, 1000, seed=0)
    assert not np.array_equal(order.starts(0), order.starts(10))
    assert not np.array_equal(order.starts(0), BatchOrder(100_000, 10, 1000, seed=1).starts(0))


def test_the_order_never_changes():
    """What this seed gave when it was first written; a stored run resumes by it."""
    assert BatchOrder(1_000, 10, 6, seed=1337).starts(0).tolist() == FIRST
    assert BatchOrder(2**40, 10, 3, seed=1337).starts(10**6).tolist() == FAR


FIRST = [156, 466, 316, 96, 986, 926]
FAR = [832960535132, 952691714872, 106344071512]


def test_a_split_too_short_for_one_example_is_refused():
    assert BatchOrder(9, 8, 2, seed=0).starts(5).tolist() == [0, 0]
    with pytest.raises(DataError, match="no example"):
        BatchOrder(8, 8, 2, seed=0)


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.int64])
def test_targets_are_the_next_tokens(kind):
    tokens = np.arange(1000, dtype=kind)
    inputs, targets = batch(Split(tokens), np.asarray([0, 17, 991]), 8)
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.tolist() == [list(range(s, s + 8)) for s in (0, 17, 991)]
    assert torch.equal(targets, inputs + 1)


@given(n_tokens=st.integers(0, 300), context=st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_validation_scores_every_token_but_the_first_once(n_tokens, context):
    tokens = np.arange(n_tokens, dtype=np.uint32)
    scored = []
    starts = evaluation_windows(Split(tokens), context)
    for group in np.array_split(starts, len(starts) // 3 + 1):
        if len(group):
            inputs, targets = batch(Split(tokens), group, context)
            inside = targets != -100
            assert torch.equal(targets[inside], inputs[inside] + 1)
            scored += targets[inside].tolist()
    assert sorted(scored) == list(range(1, n_tokens))


def test_a_batch_takes_tens_of_microseconds():
    tokens = np.zeros(1_000_000, dtype=np.uint32)
    order = BatchOrder(len(tokens), 64, 12, seed=0)
    batch(Split(tokens), order.starts(0), 64)
    best = 1.0
    for trial in range(20):
        start = time.perf_counter()
        for step in range(trial * 20, trial * 20 + 20):
            batch(Split(tokens), order.starts(step), 64)
        best = min(best, (time.perf_counter() - start) / 20)
    assert best < 200e-6
