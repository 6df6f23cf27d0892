"""Validation against one long sum, however it is shared out."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch

from gptkit.text.splits import Split
from gptkit.train.agreement import Agreement, Ballot
from gptkit.train.data import Documents
from gptkit.train.evaluate import Evaluation, Evaluator
from tiny import VOCAB, tiny

TOKENS = np.random.default_rng(0).integers(0, VOCAB, 101).astype(np.uint16)
LENGTH, BYTES = 7, 150


def directly(model: torch.nn.Module) -> float:
    """The nats of every target but the first token, each window scored by itself."""
    total = 0.0
    for start in range(0, len(TOKENS) - 1, LENGTH):
        window = torch.from_numpy(TOKENS[start : start + LENGTH + 1].astype(np.int64))
        logits = model(window[None, :-1])[0]
        total -= logits.log_softmax(-1)[torch.arange(len(window) - 1), window[1:]].sum().item()
    return total


def evaluate(model: torch.nn.Module, agreement: Agreement, **options: int) -> Evaluation | None:
    evaluator = Evaluator(Split(TOKENS, BYTES), LENGTH, 4, agreement, **options)
    return evaluator(model, Documents(model, None), torch.device("cpu"))


def test_the_whole_split_is_scored_once() -> None:
    model = tiny()
    found = evaluate(model, Agreement(lambda: 0))
    assert found is not None
    assert found.targets == len(TOKENS) - 1
    assert found.loss == pytest.approx(directly(model) / 100, abs=1e-12)
    assert found.bits_per_byte == pytest.approx(directly(model) / math.log(2) / BYTES, abs=1e-12)


class Table(Agreement):
    """Several devices in one process: they meet at a table instead of a network."""

    def __init__(self, seats: int, duplicates: int = 1) -> None:
        super().__init__(lambda: 0, duplicates)
        self.said: list[list[float]] = []
        self.barrier = threading.Barrier(seats)

    def vote(self, **_: float) -> Ballot:
        self.barrier.wait()
        return Ballot(0.0, 0.0, True, 0, False)

    def total(self, values: list[float]) -> list[float]:
        self.said.append(values)
        self.barrier.wait()
        return [sum(column) for column in zip(*self.said, strict=True)]


@pytest.mark.parametrize("devices", [2, 3])
def test_devices_add_up_to_one(devices: int) -> None:
    """Five batches over two or three devices: some score one that counts for nothing."""
    table, found = Table(devices), {}

    def seat(rank: int) -> None:
        found[rank] = evaluate(tiny(), table, rank=rank, devices=devices)

    seats = [threading.Thread(target=seat, args=(rank,)) for rank in range(devices)]
    for thread in seats:
        thread.start()
    for thread in seats:
        thread.join()
    alone = evaluate(tiny(), Agreement(lambda: 0))
    assert alone is not None
    for rank in range(devices):
        assert found[rank].loss == pytest.approx(alone.loss, abs=1e-12)
        assert found[rank].bits_per_byte == pytest.approx(alone.bits_per_byte, abs=1e-12)
        assert found[rank].targets == alone.targets


def test_a_part_of_the_split_is_spread_over_all_of_it() -> None:
    words = [bytes([97 + token]) * (1 + token % 3) for token in range(VOCAB)]
    evaluator = Evaluator(
        Split(TOKENS, BYTES), LENGTH, 2, Agreement(lambda: 0), batches=2, token_bytes=words.__getitem__
    )
    starts = np.concatenate(evaluator.parts)
    assert len(starts) == 4
    assert starts[0] == 0
    assert starts[-1] == 98
    found = evaluator(tiny(), Documents(tiny(), None), torch.device("cpu"))
    assert found is not None
    assert found.targets == 3 * LENGTH + 2
    scored = [int(token) for start in starts for token in TOKENS[start + 1 : start + LENGTH + 1]]
    spelled = b"".join(words[token] for token in scored)
    assert found.bits_per_byte == pytest.approx(
        found.loss * len(scored) / math.log(2) / len(spelled), rel=1e-12
    )


def test_no_text_is_no_validation() -> None:
    assert not Evaluator(Split(TOKENS[:0]), LENGTH, 2, Agreement(lambda: 0))
    assert not Evaluator(Split(TOKENS[:1]), LENGTH, 2, Agreement(lambda: 0))
    assert Evaluator(Split(TOKENS[:2], 1), LENGTH, 2, Agreement(lambda: 0))


def test_validation_leaves_no_trace_in_training() -> None:
    model = tiny(block={"name": "pre", "dropout": 0.5}).train()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = evaluate(model, Agreement(lambda: 0))
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert evaluate(model, Agreement(lambda: 0)) == first  # no dropout either
    assert all(p.grad is None for p in model.parameters())


def test_a_signal_ends_it_at_once() -> None:
    assert evaluate(tiny(), Agreement(lambda: 15)) is None
