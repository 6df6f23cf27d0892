"""The tokenizer in a GGUF file: the same tokens by its merges alone, or a warning and none."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import gptkit
from gguf_reference import File
from gptkit.interop.gguf import save_gguf, vocabulary
from gptkit.text.tokenizers.ranks import GPT2_PATTERN


def small(tokenizer: str, *more: str) -> Any:
    words = ["model.n_layers=1", "model.d_model=16", "model.n_heads=2", f"tokenizer={tokenizer}", *more]
    return gptkit.build(gptkit.compose(words))


def test_a_vocabulary_of_byte_pairs(tmp_path: Path) -> None:
    model = small("gpt2")
    keys = File(save_gguf(model, tmp_path / "a.gguf")).keys
    listed = {
        name.removeprefix("tokenizer.ggml."): value for name, value in keys.items() if "tokenizer" in name
    }
    assert (listed["model"], listed["pre"]) == ("gpt2", "gpt-2")
    assert listed["bos_token_id"] == listed["eos_token_id"] == 50256
    assert listed["add_bos_token"] is False
    assert len(listed["tokens"]) == len(listed["token_type"]) == model.shape.vocab_size
    assert listed["tokens"][50256] == "<|endoftext|>"
    assert listed["token_type"][50256] == vocabulary._CONTROL
    assert len(listed["merges"]) == 50000
    tokenizers = pytest.importorskip("tokenizers")

    table = {token: number for number, token in enumerate(listed["tokens"])}
    pairs = [tuple(merge.split(" ")) for merge in listed["merges"]]
    found = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=table, merges=pairs))
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in (
        "To be, or not to be:  that's\n\n the question 12345 ",
        "Grüße, 世界 🌍 naïve…",
        "\x00\x7f aaaaaaaaa",
    ):
        assert found.encode(text).ids == model.tokenizer.encode(text)


def test_a_tokenizer_that_it_cannot_hold_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "gptkit"):
        file = File(save_gguf(small("byte"), tmp_path / "a.gguf"))
    assert "tokenizer=byte is no table of byte pairs" in caplog.text
    assert file.keys["tokenizer.ggml.model"] == "none"
    assert "tokenizer.ggml.tokens" not in file.keys


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (("[a-z]+", {}, {}), "cuts text as nothing in llama.cpp does"),
        ((GPT2_PATTERN, {b"a": 0, b"b": 1, b"abab": 2}, {}), "b'abab' and 0 more follow from no merge"),
    ],
)
def test_a_table_that_it_cannot_hold_is_told(
    table: Any, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = small("gpt2").tokenizer
    monkeypatch.setattr(tokenizer, "table", lambda: table)
    with caplog.at_level(logging.WARNING, "gptkit"):
        assert vocabulary.vocabulary_keys(tokenizer, 50257) == {"model": "none"}
        assert words in caplog.text
        assert vocabulary.vocabulary_keys(tokenizer, 300) == {"model": "none"}
        assert "has 50257 tokens, but the model 300 rows" in caplog.text
