"""The benchmarks run, at sizes too small to mean anything."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("transformers")

from bench import decode, parts, sweep
from bench.figure import Figure


def test_decoding_is_measured() -> None:
    figures = decode.cached(smoke=True)
    assert [figure.unit for figure in figures] == ["tokens/s", "GB/s", "GB/s"]
    assert all(figure.ours > 0 and figure.peer and math.isfinite(figure.ours) for figure in figures)


def test_parts_and_biases_are_measured() -> None:
    figures = [*parts.composed(smoke=True), *parts.bias(smoke=True)]
    assert [figure.most for figure in figures] == [1.02, 1.3, 1.3]
    assert all(figure.ours > 0 and figure.peer for figure in figures)


def test_sweeps_are_measured() -> None:
    [cost] = sweep.overhead(smoke=True)
    assert (cost.most, cost.peer) == (1.15, 1.0)
    assert cost.ours > 1
    [report] = sweep.gathered(smoke=True)
    assert 0 < report.ours < 600


@pytest.mark.parametrize(
    ("ours", "peer", "least", "most", "reached"),
    [
        (2.0, 1.0, 1.3, None, True),
        (1.2, 1.0, 1.3, None, False),
        (0.7, 1.0, None, 0.8, True),
        (5.0, None, None, 6.0, True),
    ],
)
def test_a_mark_is_reached_or_missed(
    ours: float, peer: float | None, least: float | None, most: float | None, reached: bool
) -> None:
    assert Figure("a", "b", ours, peer, "s", least, most).reached is reached
