"""Examples in rows: the answer alone is scored, each row is read once an epoch, and none is torn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptkit import registry
from gptkit.errors import DataError
from gptkit.generate.reader import Reader
from gptkit.text.batches import IGNORED, BatchOrder, batch, evaluation_windows, spelled
from gptkit.text.examples import Asked, Example, Examples
from gptkit.text.shards import prepare
from gptkit.text.splits import Split
from gptkit.train.agreement import Agreement
from gptkit.train.data import Documents
from gptkit.train.evaluate import Evaluator
from tiny import tiny

PAIRS = [Example("ab>", "ba"), Example("abc>", "cba"), Example("b>", "bbbb")]


class Few(Examples):
    """Three examples to train on, one of them again to validate on."""

    pairs = PAIRS

    def splits(self, held_out: float) -> Mapping[str, Asked]:
        return {
            "train": Asked(self.pairs),
            "val": Asked(self.pairs[:1] if held_out else []),
            "longer": Asked([Example("abcabc>", "cbacba")], 6, trained=False),
        }

    def fingerprint(self) -> str:
        return str(self.pairs)


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Few]:
    monkeypatch.setenv("GPTKIT_CACHE", str(tmp_path))
    real = registry.load
    monkeypatch.setattr(registry, "load", lambda slot, name: Few if name == "few" else real(slot, name))
    monkeypatch.setattr("gptkit.text.shards.part_options", lambda slot, node: {})
    return Few


def config(tokenizer: str = "char", context: int = 16, fraction: float = 0.1) -> dict:
    return {
        "data": {"name": "few", "val_fraction": fraction},
        "tokenizer": {"name": tokenizer},
        "model": {"context_length": context},
    }


@pytest.mark.parametrize("tokenizer", ["char", "byte", "gpt2"])
def test_rows_hold_prompt_answer_and_end_and_score_the_answer_alone(few, tokenizer) -> None:
    data = prepare(config(tokenizer))
    end = data.tokenizer.end_of_text
    tail = [end] if end is not None else data.tokenizer.encode("\n")
    split = data.splits["train"]
    assert split.examples == 3
    for number, (prompt, answer) in enumerate(PAIRS):
        asks, says = data.tokenizer.encode(prompt), data.tokenizer.encode(answer) + tail
        row = slice(number * split.width, (number + 1) * split.width)
        fill = split.width - len(asks) - len(says)
        assert split.tokens[row].tolist() == asks + says + [0] * fill
        assert split.scored[row].tolist() == [False] * len(asks) + [True] * len(says) + [False] * fill
    assert split.n_bytes == sum(len(answer) + 1 for _, answer in PAIRS)
    longer = data.splits["longer"]
    assert (longer.length, longer.trained, longer.examples) == (6, False, 1)
    assert prepare(config(tokenizer)).fingerprint == data.fingerprint


def test_targets_are_the_answers_and_nothing_else(few) -> None:
    data = prepare(config())
    split = data.splits["train"]
    starts = evaluation_windows(split, 16)
    inputs, targets = batch(split, starts, split.reach(16))
    assert inputs.shape == targets.shape == (3, split.width - 1)
    for row, (prompt, answer) in zip(range(3), PAIRS, strict=True):
        scored = targets[row][targets[row] != IGNORED]
        assert data.tokenizer.decode(scored.tolist()) == answer + "\n"
        assert (targets[row][: len(prompt) - 1] == IGNORED).all()
        assert data.tokenizer.decode(inputs[row][: len(prompt)].tolist()) == prompt
    assert spelled(split, starts, split.reach(16), data.tokenizer.token_bytes) == split.n_bytes


@given(rows=st.integers(1, 40), width=st.integers(2, 9), size=st.integers(1, 7), seed=st.integers(0, 99))
@settings(deadline=None)
def test_an_epoch_reads_each_row_once_and_tears_none(rows, width, size, seed) -> None:
    split = Split(np.arange(rows * width), width=width)
    order = BatchOrder.of(split, 1000, size, seed)
    steps = -(-2 * rows // size)
    starts = np.concatenate([order.starts(step) for step in range(steps)])[: 2 * rows]
    for epoch in (starts[:rows], starts[rows:]):
        assert sorted(epoch) == [row * width for row in range(rows)]
    inputs, targets = batch(split, starts[:rows], order.context_length)
    assert inputs.shape == (rows, width - 1)
    assert (torch.cat([inputs, targets[:, -1:]], 1).diff(dim=1) == 1).all()


def test_an_example_longer_than_the_context_is_explained_and_a_longer_test_is_not(few) -> None:
    longest = max(len(prompt) + len(answer) for prompt, answer in PAIRS)
    with pytest.raises(DataError, match=f"Take model.context_length={longest} or more"):
        prepare(config(context=longest - 1))
    assert prepare(config(context=longest)).splits["longer"].reach(0) > longest


@pytest.mark.parametrize("pairs", [[Example("", "a")], [Example("a", "")]])
def test_an_example_without_prompt_or_answer_is_named(few, monkeypatch, pairs) -> None:
    monkeypatch.setattr(Few, "pairs", [Example("ab", "a"), *pairs])
    monkeypatch.setattr("gptkit.text.examples.separator", lambda tokenizer: (np.empty(0, np.uint32), 0))
    with pytest.raises(DataError, match="has no (prompt|answer)"):
        prepare(config())


def test_a_vocabulary_spells_every_split(few, monkeypatch) -> None:
    def splits(self: Few, held_out: float) -> Mapping[str, Asked]:
        asked = [Example("x>", "y")] if held_out else []
        return {"train": Asked(PAIRS), "val": Asked(asked), "far": Asked([Example("z>", "zz")], 2, False)}

    monkeypatch.setattr(few, "splits", splits)
    for fraction, spelled_by in ((0.1, "\n>abcxyz"), (0.0, "\n>abcz")):
        tokenizer = prepare(config(fraction=fraction)).tokenizer
        found = (tokenizer.token_bytes(n).decode() for n in range(tokenizer.vocab_size))
        assert "".join(sorted(found)) == spelled_by


def test_without_validation_there_is_none(few) -> None:
    data = prepare(config(fraction=0.0))
    assert not data.splits["val"]
    assert not Evaluator(data.splits["val"], 16, 2, Agreement(lambda: 0))
    assert Evaluator(data.splits["longer"], 16, 2, Agreement(lambda: 0))


@torch.no_grad()
def test_accuracy_is_what_greedy_decoding_gives(few, monkeypatch) -> None:
    """Judged by decoding, token by token with a cache, instead of by reading the right answer."""
    letters = np.random.default_rng(0)
    asked = ["".join(letters.choice(list("abc"), 4)) + ">" for _ in range(60)]
    monkeypatch.setattr(Few, "pairs", [Example(prompt, "ab"[len(prompt) % 2]) for prompt in asked])
    data = prepare(config(context=12))
    model = tiny(context_length=12, vocab_size=data.tokenizer.vocab_size).eval()
    answers = []
    for prompt in asked:  # what the model says becomes the right answer of every other one
        reader = Reader(model, [data.tokenizer.encode(prompt)], 3)
        said = []
        for _ in range(2):
            said.append(int(reader.scores()[0].argmax()))
            reader.add(torch.tensor([said[-1]]))
        answers.append(said)
    width = len(asked[0]) + 2
    tokens = np.zeros((60, width), np.uint32)
    scored = np.zeros((60, width), bool)
    for row, (prompt, said) in enumerate(zip(asked, answers, strict=True)):
        wrong = [said[0], (said[1] + 1) % data.tokenizer.vocab_size]
        tokens[row] = data.tokenizer.encode(prompt) + (said if row % 3 else wrong)
        scored[row, len(prompt) :] = True
    split = Split(tokens.ravel(), 120, scored.ravel(), width)
    found = Evaluator(split, 12, 7, Agreement(lambda: 0))(model, Documents(model, None), torch.device("cpu"))
    assert found is not None
    assert found.targets == 120
    assert found.accuracy == pytest.approx(40 / 60, abs=1e-12)
    assert found.token_accuracy == pytest.approx(100 / 120, abs=1e-12)
    logits = model(torch.from_numpy(tokens[:, :-1].astype(np.int64)))
    nats = -logits.double().log_softmax(-1)
    expected = sum(
        nats[row, at - 1, tokens[row, at]].item()
        for row in range(60)
        for at in range(width)
        if scored[row, at]
    )
    assert found.loss == pytest.approx(expected / 120, rel=1e-6)
    assert found.metrics("longer").keys() == {
        "longer_loss",
        "longer_bits_per_byte",
        "longer_accuracy",
        "longer_token_accuracy",
    }


@torch.no_grad()
def test_devices_share_the_rows_and_count_each_once(few) -> None:
    class Table(Agreement):
        """Devices that meet in one process, one after the other."""

        said: list[list[float]]

        def total(self, values: list[float]) -> list[float]:
            self.said.append(values)
            return [sum(column) for column in zip(*self.said, strict=True)]

    data = prepare(config())
    split, model = data.splits["train"], tiny(context_length=16, vocab_size=data.tokenizer.vocab_size).eval()
    alone = Evaluator(split, 16, 2, Agreement(lambda: 0))(model, Documents(model, None), torch.device("cpu"))
    for devices in (2, 3):
        table = Table(lambda: 0)
        table.said = []
        found = None
        for rank in range(devices):
            score = Evaluator(split, 16, 1, table, rank=rank, devices=devices)
            found = score(model, Documents(model, None), torch.device("cpu"))
        assert found is not None
        assert alone is not None
        assert found.targets == alone.targets
        assert found.loss == pytest.approx(alone.loss, rel=1e-6)
        assert (found.accuracy, found.token_accuracy) == pytest.approx((alone.accuracy, alone.token_accuracy))
