"""SentencePiece models: the library's own numbers, texts that come back, special texts that stay plain."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptkit.errors import DataError, UserError
from gptkit.text.tokenizers import build_tokenizer, load_tokenizer

sentencepiece = pytest.importorskip("sentencepiece")

TEXT = "To be, or not to be: that is the question.\nL'été, où êtes-vous? 東京 🙂\n"
PLAIN = {
    "byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
    "add_dummy_prefix": False, "vocab_size": 320,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "bpe": PLAIN,
    "llama": {**PLAIN, "add_dummy_prefix": True},
    "suffix": {**PLAIN, "add_dummy_prefix": True, "treat_whitespace_as_suffix": True},
    "unigram": {**PLAIN, "model_type": "unigram"},
    "normal": {"model_type": "unigram", "vocab_size": 60},
    "char": {"model_type": "char", "vocab_size": 60, "normalization_rule_name": "identity"},
}
EXACT = ("bpe", "llama", "suffix", "unigram")


def trained(**options: Any) -> bytes:
    """A small model; `</` and `s>` are among its pieces."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXT.splitlines(), "</ </ s> s> </s>"] * 20), model_writer=written,
        minloglevel=2, num_threads=1, **{"model_type": "bpe", "hard_vocab_limit": False, **options},
    )  # fmt: skip
    return written.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, tuple[Any, Any]]:
    """The library's model and ours of the same file, by kind."""
    folder, found = tmp_path_factory.mktemp("files"), {}
    for kind, options in KINDS.items():
        (folder / f"{kind}.model").write_bytes(trained(**options))
        theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{kind}.model"))
        found[kind] = theirs, part(folder / f"{kind}.model")
    return found


def part(path: Path, **options: Any) -> Any:
    return build_tokenizer({"name": "sentencepiece", "path": str(path), **options}, None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_the_librarys(made, kind):
    theirs, ours = made[kind]
    for text in (TEXT, "To be", " to  be ", "", "東京 Ω"):
        assert ours.encode(text) == theirs.encode(text)
    assert (ours.vocab_size, ours.end_of_text) == (theirs.vocab_size(), theirs.eos_id())
    assert ours.token_bytes(ours.vocab_size) == ours.token_bytes(-1) == ours.token_bytes(10**12) == b""


@pytest.mark.parametrize("kind", EXACT)
@given(text=st.text())
@settings(max_examples=100, deadline=None)
def test_any_text_comes_back(made, kind, text):
    known = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("▁", " ")
    theirs, ours = made[kind]
    assert ours.decode(ours.encode(text)) == known
    if kind != "suffix":  # whose spaces the library leaves there
        assert theirs.decode(ours.encode(text)) == known


@pytest.mark.parametrize("kind", ["bpe", "llama"])
def test_every_unicode_scalar_comes_back(made, kind):
    everything = "".join(map(chr, [*range(0x2581), *range(0x2582, 0xD800), *range(0xE000, 0x110000)]))
    ours = made[kind][1]
    assert ours.decode(ours.encode(everything)) == everything


def test_what_the_design_forgets_is_forgotten(made):
    assert made["normal"][1].decode(made["normal"][1].encode("To  ｂｅ")) == "To be"
    assert made["char"][1].decode(made["char"][1].encode("to Ω")) == "to <unk>"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["</s>", "to</s>be", "<s>to </s>", "<|endoftext|>"])
def test_the_end_of_a_document_is_plain_text_unless_asked_for(made, kind, text):
    ours = made[kind][1]
    assert not {1, 2} & set(ours.encode(text))
    assert ours.encode(text, special=True).count(ours.end_of_text) == 1
    if kind in EXACT:
        assert ours.decode(ours.encode(text)) == text


def test_which_piece_ends_a_document(tmp_path):
    data = trained(**PLAIN, control_symbols="<done>", user_defined_symbols="<mine>")
    (tmp_path / "tokenizer.model").write_bytes(data)
    assert part(tmp_path).end_of_text == 2
    done = part(tmp_path, end_of_text="<done>")
    assert done.encode("<done>", special=True) == [done.end_of_text]
    assert done.end_of_text not in done.encode("<done>")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<done>"}))
    assert part(tmp_path).end_of_text == done.end_of_text
    with pytest.raises(UserError, match="'<mine>' is not among the model's control pieces"):
        part(tmp_path, end_of_text="<mine>")  # a text could hold it
    (tmp_path / "none.model").write_bytes(trained(**PLAIN, eos_id=-1))
    (tmp_path / "tokenizer_config.json").unlink()
    assert part(tmp_path / "none.model").end_of_text is None


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_needs_the_file_no_more(made, kind, tmp_path):
    ours = made[kind][1]
    ours.save(tmp_path / "one")
    loaded = load_tokenizer(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert loaded.fingerprint() == ours.fingerprint()
    assert loaded.encode(TEXT) == ours.encode(TEXT)
    assert (loaded.vocab_size, loaded.end_of_text) == (ours.vocab_size, ours.end_of_text)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


@pytest.mark.parametrize("content", [b"", b"\x80\x04cos\nsystem\n.", b"{}", "cut"])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.model").write_bytes(trained(**PLAIN)[:-7] if content == "cut" else content)
    with pytest.raises(DataError, match="no SentencePiece model"):
        part(tmp_path)


def test_it_asks_for_its_library_and_its_file(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"Set tokenizer\.path to tokenizer\.model"):
        part(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r"gptkit\[sentencepiece\]"):
        part(tmp_path)
