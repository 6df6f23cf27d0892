"""Tokenizers: exact round trips, plain text that stays plain, long runs, saving and loading."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptkit import registry
from gptkit.errors import DataError, UserError
from gptkit.text.tokenizers import build_tokenizer, load_tokenizer, ranks
from gptkit.text.tokenizers.base import Tokenizer

TEXT = "To be, or not to be: that is the question.\nL'été, où êtes-vous? 東京 🙂\n" * 20
NAMES = ("byte", "char", "word", "gpt2", "bpe")


class Lines:
    """As much of a corpus as `build_tokenizer` asks for."""

    def __init__(self, *documents: str) -> None:
        self.documents = documents

    def all_documents(self):
        return iter(self.documents)


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    pytest.importorskip("tokenizers")
    nodes = {name: {"name": name} for name in NAMES}
    nodes["bpe"]["size"] = 300
    return {name: build_tokenizer(node, Lines(TEXT)) for name, node in nodes.items()}


def scalars() -> str:
    """Every Unicode scalar value once."""
    return "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)


@pytest.mark.parametrize("name", NAMES)
def test_a_known_text_comes_back_exactly(tokenizers, name):
    tokenizer = tokenizers[name]
    tokens = tokenizer.encode(TEXT)
    assert tokenizer.decode(tokens) == TEXT
    assert tokenizer.encode_array(TEXT).tolist() == tokens
    assert tokenizer.encode_batch([TEXT, "be"]) == [tokens, tokenizer.encode("be")]
    assert 0 <= min(tokens) <= max(tokens) < tokenizer.vocab_size
    assert b"".join(tokenizer.token_bytes(token) for token in tokens) == TEXT.encode()


@pytest.mark.parametrize("name", ["byte", "gpt2", "bpe"])
def test_every_unicode_scalar_comes_back(tokenizers, name):
    everything = scalars()
    assert tokenizers[name].decode(tokenizers[name].encode(everything)) == everything


@pytest.mark.parametrize("name", ["byte", "gpt2", "bpe"])
@given(text=st.text())
@settings(max_examples=150, deadline=None)
def test_any_text_comes_back_with_lone_surrogates_replaced(tokenizers, name, text):
    known = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert tokenizers[name].decode(tokenizers[name].encode(text)) == known


@pytest.mark.parametrize("name", ["byte", "word", "gpt2", "bpe"])
def test_lone_surrogates_are_read_as_the_replacement_character(tokenizers, name):
    assert tokenizers[name].encode("a\ud800b") == tokenizers[name].encode("a\ufffdb")


@pytest.mark.parametrize("name", ["word", "gpt2", "bpe"])
def test_the_end_of_text_is_plain_text_unless_asked_for(tokenizers, name):
    tokenizer = tokenizers[name]
    assert tokenizer.end_of_text not in tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.encode("be<|endoftext|>or", special=True).count(tokenizer.end_of_text) == 1
    assert tokenizer.encode("be", special=True) == tokenizer.encode("be")
    if name != "word":
        assert tokenizer.decode(tokenizer.encode("a<|endoftext|>b")) == "a<|endoftext|>b"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("token", [-1, 10**6, 10**12])
def test_a_number_that_no_token_has_stands_for_nothing(tokenizers, name, token):
    assert tokenizers[name].token_bytes(token) == b""
    assert tokenizers[name].decode([token, *tokenizers[name].encode("be")]) == "be"


def test_gpt2_encodes_as_published(tokenizers):
    gpt2 = tokenizers["gpt2"]
    assert (gpt2.vocab_size, gpt2.end_of_text) == (50257, 50256)
    assert gpt2.encode("hello world") == [31373, 995]  # tiktoken's own documentation
    assert gpt2.encode("<|endoftext|>") == [27, 91, 437, 1659, 5239, 91, 29]
    assert gpt2.encode("<|endoftext|>", special=True) == [50256]
    table = ranks.gzip.decompress((ranks._ASSETS / "gpt2.tiktoken.gz").read_bytes())
    published = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"  # r50k_base, in tiktoken
    assert hashlib.sha256(table).hexdigest() == published


def test_published_encodings_are_shaped_as_in_tiktoken(monkeypatch):
    public = pytest.importorskip("tiktoken_ext.openai_public")
    asked = {}

    def remember(url: str, expected_hash: str) -> dict[bytes, int]:
        asked.update(url=url, sha256=expected_hash)
        return {}

    monkeypatch.setattr(public, "load_tiktoken_bpe", remember)
    for name in ("p50k_base", "cl100k_base", "o200k_base"):
        told = public.ENCODING_CONSTRUCTORS[name]()
        part = registry.load("tokenizer", name)
        pattern, special = ranks._SHAPES[name]
        assert told["pat_str"] == pattern
        assert told["special_tokens"] == {"<|endoftext|>": part.end_of_text, **special}
        assert (f"{ranks._HOST}/encodings/{name}.tiktoken", part.sha256) == (asked["url"], asked["sha256"])
        assert part.vocab_size > max(told["special_tokens"].values())


@pytest.mark.parametrize("name", ["gpt2", "bpe"])
@pytest.mark.parametrize(
    "run",
    [" ", "\n", "\t", "a", "A", ".", "1", "東", "\n ", "ab", "\r\n"],
    ids=lambda run: run.encode().hex(),
)
def test_a_megabyte_of_one_sign_comes_back(tokenizers, name, run):
    text = run * (1_000_000 // len(run)) + "x"
    assert tokenizers[name].decode(tokenizers[name].encode(text)) == text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("run", [" ", "t"])
def test_time_is_linear_in_the_length_of_a_run(tokenizers, name, run):
    def seconds(length: int) -> float:
        best = 1e9
        for _ in range(3):
            start = time.process_time()
            tokenizers[name].encode(run * length)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(1_000_000) <= 15 * max(seconds(100_000), 0.004)


def test_only_long_runs_are_cut():
    ordinary = TEXT * 30
    assert len(ordinary) > ranks.LONGEST_RUN
    assert list(ranks.short_runs(ordinary)) == [ordinary]
    long = "a b " + "c" * 25_000 + " d"
    assert "".join(ranks.short_runs(long)) == long
    assert [len(piece) for piece in ranks.short_runs(long)] == [4 + 10_000, 10_000, 5_000 + 2]


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_tokenizer_is_the_same_when_loaded(tokenizers, name, tmp_path):
    tokenizers[name].save(tmp_path / "one")
    loaded = load_tokenizer(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert loaded.fingerprint() == tokenizers[name].fingerprint()
    assert loaded.encode(TEXT) == tokenizers[name].encode(TEXT)
    assert (loaded.vocab_size, loaded.end_of_text) == (
        tokenizers[name].vocab_size,
        tokenizers[name].end_of_text,
    )
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


@pytest.mark.parametrize("name", ["char", "word", "bpe"])
def test_a_changed_vocabulary_is_refused(tokenizers, name, tmp_path):
    tokenizers[name].save(tmp_path)
    (file,) = [file for file in tmp_path.iterdir() if file.name != "tokenizer.json"]
    data = file.read_bytes()
    for damaged in (data[:-1], b"x" + data[1:], data + b"\n", b""):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match="sha256 differs"):
            load_tokenizer(tmp_path)
    file.unlink()
    with pytest.raises(DataError):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["../vocabulary.json", "/etc/hostname", "a/b", ".."])
def test_a_file_elsewhere_is_not_read(tmp_path, name):
    (tmp_path / "vocabulary.json").write_text('"ab"')
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    told = {"name": "char", "options": {}, "files": {name: hashlib.sha256(b'"ab"').hexdigest()}}
    (folder / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(DataError, match="no plain name"):
        load_tokenizer(folder)


def test_a_link_is_not_followed(tokenizers, tmp_path):
    tokenizers["char"].save(tmp_path)
    (tmp_path / "vocabulary.json").rename(tmp_path / "elsewhere")
    (tmp_path / "vocabulary.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="symbolic link"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "told",
    [
        "[]",
        "{}",
        "{",
        '{"name": "char", "options": {"a": 1}, "files": {}}',
        '{"name": "char", "options": {}, "files": {}}',
    ],
)
def test_what_is_no_tokenizer_is_refused(tmp_path, told):
    (tmp_path / "tokenizer.json").write_text(told)
    with pytest.raises(DataError):
        load_tokenizer(tmp_path)


def test_a_table_of_ranks_without_a_byte_is_refused():
    part = registry.load("tokenizer", "bpe")()
    table = ranks.dump_ranks({bytes([byte]): byte for byte in range(255)})
    with pytest.raises(DataError, match="every byte"):
        part.set_state({"ranks.tiktoken": table})


def test_char_names_the_character_that_it_does_not_know(tokenizers):
    with pytest.raises(DataError, match="'Ж' at place 2"):
        tokenizers["char"].encode("beЖ")


def test_word_keeps_the_most_frequent_and_marks_the_others():
    word = build_tokenizer({"name": "word", "max_words": 3}, Lines("a b a b a c"))
    assert word.vocab_size == 5
    assert word.decode(word.encode("a b c")) == "a b <unk>"


def test_bpe_finds_the_merges_that_counting_finds():
    """Sennrich et al. (2016) by hand: 'ab' four times, then 'abab', of which there are two words."""
    bpe = build_tokenizer({"name": "bpe", "size": 259}, Lines("abab abab"))
    assert bpe.vocab_size == 259
    assert bpe.token_bytes(256) == b"ab"
    assert bpe.token_bytes(257) == b"abab"
    assert bpe.end_of_text == 258


def test_bpe_is_the_same_in_every_process(tokenizers):
    code = (
        "import sys; from gptkit.text.tokenizers import build_tokenizer\n"
        "class Lines:\n    def all_documents(self): return iter([sys.stdin.read()])\n"
        "print(build_tokenizer({'name': 'bpe', 'size': 300}, Lines()).fingerprint())"
    )
    found = set()
    for seed, parallel in (("0", "true"), ("1", "false")):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "TOKENIZERS_PARALLELISM": parallel,
            "PYTHONIOENCODING": "utf-8",
        }
        done = subprocess.run(
            [sys.executable, "-c", code], input=TEXT, env=environment, capture_output=True, encoding="utf-8"
        )
        found.add(done.stdout.strip())
    assert found == {tokenizers["bpe"].fingerprint()}


def test_bpe_asks_for_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"gptkit\[bpe\]"):
        build_tokenizer({"name": "bpe"}, Lines("text"))


def test_bpe_says_how_small_it_can_be():
    with pytest.raises(UserError, match="257"):
        build_tokenizer({"name": "bpe", "size": 256}, Lines("text"))


def test_a_corpus_is_asked_for_where_one_is_needed():
    with pytest.raises(DataError, match="byte or gpt2"):
        build_tokenizer({"name": "char"}, None)


def download_from(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Put a port of this machine in the place of the published address."""
    real = ranks._download
    address = f"http://127.0.0.1:{port}/ranks"
    monkeypatch.setattr(ranks, "_download", lambda url, sha256, place: real(address, sha256, place))
    monkeypatch.setenv("no_proxy", "*")


def test_an_uncached_encoding_without_a_network_is_answered_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    download_from(monkeypatch, 9)  # nobody listens there
    start = time.monotonic()
    with pytest.raises(DataError, match="TIKTOKEN_CACHE_DIR") as caught:
        registry.load("tokenizer", "cl100k_base")().encode("a")
    assert time.monotonic() - start < 5
    assert "9b5ad71b2ce5302211f9c61530b329a4922fc6a4" in str(caught.value)


def test_a_silent_server_is_given_up(monkeypatch, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
        download_from(monkeypatch, server.getsockname()[1])
        monkeypatch.setattr(ranks, "_PATIENCE", 0.3)
        start = time.monotonic()
        with pytest.raises(DataError, match="gpt2"):
            registry.load("tokenizer", "p50k_base")().encode("a")
        assert time.monotonic() - start < 5


def test_a_damaged_cache_is_not_used(monkeypatch, tmp_path):
    (tmp_path / "ec7223a39ce59f226a68acc30dc1af2788490e15").write_bytes(b"IQ== 0\n")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    download_from(monkeypatch, 9)
    with pytest.raises(DataError):
        registry.load("tokenizer", "p50k_base")().encode("a")


def published(name: str) -> Tokenizer:
    """A published tokenizer whose table is at hand; the test is skipped without."""
    part = registry.load("tokenizer", name)()
    key = hashlib.sha1(f"{ranks._HOST}/encodings/{name}.tiktoken".encode()).hexdigest()
    if not (Path(os.environ.get("TIKTOKEN_CACHE_DIR", "/tmp/data-gym-cache")) / key).is_file():
        pytest.skip(f"{name} is not in tiktoken's cache")
    return part


@pytest.mark.parametrize("name", ["p50k_base", "cl100k_base", "o200k_base"])
def test_published_encodings_agree_with_tiktoken(name, tmp_path):
    import tiktoken

    part = published(name)
    reference = tiktoken.get_encoding(name)
    assert part.vocab_size == reference.n_vocab
    assert part.encode(TEXT) == reference.encode_ordinary(TEXT)
    spaces = " " * 1_000_000 + "x"
    assert part.decode(part.encode(spaces)) == spaces
    part.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint() == part.fingerprint()
    assert loaded.encode(TEXT) == part.encode(TEXT)
