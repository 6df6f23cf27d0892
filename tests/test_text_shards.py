"""Token arrays: the right tokens, made once, never an old or a damaged one."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gptkit.errors import DataError
from gptkit.text import encoding as running
from gptkit.text import shards
from gptkit.text.corpora import Corpus
from gptkit.text.shards import Dataset, prepare

TEXT = "".join(f"Line {number}: to be or not to be, où?\n" for number in range(300))


def config(path: Path | str, tokenizer: str = "byte", fraction: float = 0.1, **data: object) -> dict:
    return {
        "data": {"name": "text", "path": str(path), "val_fraction": fraction, **data},
        "tokenizer": {"name": tokenizer},
        "model": {"context_length": 16},
    }


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def text(tmp_path: Path, cache: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT, "utf-8")
    return tmp_path / "text.txt"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are built, as they are."""
    seen: list[Path] = []
    real = shards._write

    def write(folder: Path, *rest: object) -> None:
        seen.append(folder)
        real(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(shards, "_write", write)
    return seen


def arrays(cache: Path) -> Path:
    (found,) = [entry for entry in (cache / "tokens").iterdir() if entry.is_dir()]
    return found


@pytest.mark.parametrize("name", ["byte", "char", "word", "gpt2"])
def test_the_splits_are_the_text_cut_once(text, name):
    data = prepare(config(text, name))
    cut = len(TEXT) - int(len(TEXT) * 0.1)
    end = [] if data.tokenizer.end_of_text is None else [data.tokenizer.end_of_text]
    end = end or data.tokenizer.encode("\n")
    assert data.train.tolist() == data.tokenizer.encode(TEXT[:cut]) + end
    assert data.val.tolist() == data.tokenizer.encode(TEXT[cut:]) + end


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("fold", [0, 1, 2, 9, 10, -1])
def test_a_fold_is_held_out_and_all_else_is_trained_on(text, fraction, fold):
    data = prepare(config(text, "byte", fraction, val_fold=fold))
    size = int(len(TEXT) * fraction)
    cut = len(TEXT) - size * (fold % (len(TEXT) // size))
    left, kept, right = TEXT[: cut - size], TEXT[cut - size : cut], TEXT[cut:]
    end = data.tokenizer.encode("\n")
    around = [token for piece in (left, right) if piece for token in data.tokenizer.encode(piece) + end]
    assert data.train.tolist() == around
    assert data.val.tolist() == data.tokenizer.encode(kept) + end


def test_folds_cover_the_corpus_and_share_nothing(tmp_path, cache):
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"text": "{c * 7}"}}\n' for c in "abcdefgh"), "utf-8")
    held: list[str] = []
    prints = set()
    for fold in range(4):
        data = prepare(config(tmp_path / "rows.jsonl", "byte", 0.25, val_fold=fold))
        held.insert(0, data.tokenizer.decode(data.val.tolist()).replace("\n", ""))
        kept = data.tokenizer.decode(data.train.tolist()).replace("\n", "")
        assert not set(held[0]) & set(kept)
        assert len(held[0]) + len(kept) == 56
        prints.add(data.fingerprint)
    assert "".join(held) == "".join(c * 7 for c in "abcdefgh")
    assert len(prints) == 4


def test_documents_are_ended_once(tmp_path, cache):
    (tmp_path / "rows.jsonl").write_text('{"text": "ab"}\n{"text": ""}\n{"text": "<|endoftext|>"}', "utf-8")
    wanted = config(tmp_path / "rows.jsonl", "gpt2", 0.0)
    wanted["model"]["context_length"] = 2
    data = prepare(wanted)
    assert (data.train == 50256).sum() == 2
    assert data.train.tolist() == [397, 50256, *data.tokenizer.encode("<|endoftext|>"), 50256]
    assert len(data.val) == 0


@pytest.mark.parametrize("name", ["byte", "char", "gpt2"])
def test_the_bytes_of_the_scored_text_are_exact(text, name):
    data = prepare(config(text, name))
    spelt = data.tokenizer.decode_bytes(data.val[1:].tolist()).replace(b"<|endoftext|>", b"\n")
    assert data.val_bytes == len(spelt)


def test_every_tokenizer_validates_on_the_same_text(text):
    sets = [prepare(config(text, name)) for name in ("byte", "char", "gpt2")]
    assert len({data.tokenizer.decode(data.val[:-1].tolist()) for data in sets}) == 1


def test_files_for_validation_replace_the_fraction(tmp_path, text):
    (tmp_path / "val.txt").write_text("other words\n", "utf-8")
    data = prepare(config(text, val_path=str(tmp_path / "val.txt")))
    assert data.tokenizer.decode(data.train) == TEXT + "\n"
    assert data.tokenizer.decode(data.val) == "other words\n\n"


def test_what_is_there_is_not_built_again(text, builds):
    first, second = prepare(config(text)), prepare(config(text))
    assert len(builds) == 1
    assert np.array_equal(first.train, second.train)
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("name", ["char", "word", "bpe"])
def test_a_vocabulary_is_made_once(text, monkeypatch, name):
    if name == "bpe":
        pytest.importorskip("tokenizers")
    first = prepare(config(text, name))
    monkeypatch.setattr(type(first.tokenizer), "fit", None)  # would fail if it were called
    again = prepare(config(text, name))
    assert again.tokenizer.fingerprint() == first.tokenizer.fingerprint()
    assert np.array_equal(again.train, first.train)


@pytest.mark.parametrize("change", ["text", "tokenizer", "option", "fraction", "source"])
def test_another_text_or_tokenizer_never_meets_old_arrays(text, builds, monkeypatch, change):
    wanted = config(text, "word")
    first = prepare(wanted)
    stamp = text.stat()
    if change == "text":
        text.write_text(TEXT.replace("Line 7:", "Lime 7:"), "utf-8")
        os.utime(text, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the same size and the same time
    elif change == "tokenizer":
        wanted["tokenizer"] = {"name": "char"}
    elif change == "option":
        wanted["tokenizer"] = {"name": "word", "max_words": 20}
    elif change == "fraction":
        wanted["data"]["val_fraction"] = 0.2
    else:
        monkeypatch.setattr(shards, "_source", lambda part: "edited")
    second = prepare(wanted)
    assert len(builds) == 2
    assert (second.fingerprint == first.fingerprint) == (change == "source")


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "flipped": lambda path: path.write_bytes(b"\xff" + path.read_bytes()[1:]),
    "grown": lambda path: path.write_bytes(path.read_bytes() + b"\0\0\0\0"),
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("file", ["train.bin", "val.bin", "splits.json"])
def test_a_damaged_cache_is_built_again(text, cache, builds, how, file):
    first = prepare(config(text)).train.tolist()
    DAMAGE[how](arrays(cache) / file)
    assert prepare(config(text)).train.tolist() == first
    assert len(builds) == 2


def test_a_damaged_vocabulary_is_made_again(text, cache):
    first = prepare(config(text, "char")).tokenizer.fingerprint()
    (kept,) = (cache / "tokenizers").glob("*/vocabulary.json")
    kept.write_bytes(b'"ab"')
    assert prepare(config(text, "char")).tokenizer.fingerprint() == first


def test_a_killed_builder_leaves_nothing_in_the_way(text, cache):
    code = (
        "import os, sys\nfrom gptkit.text import shards\n"
        "shards._seal = lambda *given: os._exit(9)\n"
        "shards.prepare({'data': {'name': 'text', 'path': sys.argv[1], 'val_fraction': 0.1},"
        " 'tokenizer': {'name': 'byte'}, 'model': {'context_length': 16}})"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(text)])
    assert killed.returncode == 9
    assert [entry for entry in (cache / "tokens").iterdir() if entry.is_dir()]
    assert prepare(config(text)).tokenizer.decode(prepare(config(text)).train).startswith("Line 0")
    assert len([entry for entry in (cache / "tokens").iterdir() if entry.is_dir()]) == 1


def test_eight_processes_build_once(text):
    code = (
        "import sys\nfrom gptkit.text import shards\nreal = shards._write\n"
        "shards._write = lambda *given: (print('built'), real(*given))[1]\n"
        "told = {'data': {'name': 'text', 'path': sys.argv[1], 'val_fraction': 0.1},"
        " 'tokenizer': {'name': 'char'}, 'model': {'context_length': 16}}\n"
        "print(shards.prepare(told).fingerprint)"
    )
    command = [sys.executable, "-c", code, str(text)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    told = [line for process in running for line in process.communicate()[0].split()]
    assert told.count("built") == 1
    assert len(told) == 9
    assert len(set(told)) == 2


@pytest.mark.parametrize("name", ["gpt2", "word", "byte"])
@pytest.mark.parametrize("mark", [". ", ".\n", ".\n\n", "  ", " / ", "\n/", "'s ", "\t"])
def test_blocks_have_the_tokens_of_the_whole(monkeypatch, name, mark):
    from gptkit.text.tokenizers import build_tokenizer

    document = "".join(f"word{number * 7919 % 1000}{mark}" for number in range(400)) + "the end of it"
    tokenizer = build_tokenizer({"name": name}, _Lines(document))
    monkeypatch.setattr(running, "_BLOCK", 97)
    blocks = list(running.blocks(document))
    assert "".join(blocks) == document
    assert len(blocks) > 20
    if mark not in (".\n\n", "  ", "\n/", "\t"):  # no border stands at these
        assert [token for block in blocks for token in tokenizer.encode(block)] == tokenizer.encode(document)


@pytest.mark.parametrize("name", ["p50k_base", "cl100k_base", "o200k_base"])
def test_borders_hold_in_every_published_pattern(monkeypatch, name):
    """The patterns alone, with bytes for tokens: where the text is cut into words."""
    import tiktoken

    from gptkit.text.tokenizers import ranks

    alphabet = {bytes([byte]): byte for byte in range(256)}
    words = {
        word.encode(): 256 + n
        for n, word in enumerate([" a", ".\n", "\n\n", "\n/", " .", "a'", "'s", ". ", " \n"])
    }
    encoding = tiktoken.Encoding(
        name, pat_str=ranks._SHAPES[name][0], mergeable_ranks=alphabet | words, special_tokens={}
    )
    monkeypatch.setattr(running, "_BLOCK", 40)
    draw = np.random.default_rng(0)
    for _ in range(300):
        pieces = draw.choice([" ", "\n", "a", "B", "'s", ".", "/", "1", "\t", "é", " a", "a ", "\r\n"], 200)
        document = "x y\nz " * 2 + "".join(pieces)
        blocks = list(running.blocks(document))
        cuts = np.cumsum([len(block) for block in blocks])[:-1]
        if all(running.BORDER.match(document, cut) for cut in cuts):
            whole = encoding.encode_ordinary(document)
            assert [token for block in blocks for token in encoding.encode_ordinary(block)] == whole


class _Lines(Corpus):
    def __init__(self, *lines: str) -> None:
        self.lines = lines

    def documents(self):
        return iter(self.lines)

    def fingerprint(self) -> str:
        return "lines"


@pytest.mark.parametrize(("content", "told"), [("", "empty"), ("\n", "shorter"), ("a b c", "shorter")])
def test_a_corpus_without_one_example_is_explained(tmp_path, cache, content, told):
    (tmp_path / "short.txt").write_text(content, "utf-8")
    for name in ("byte", "char", "word", "gpt2"):
        with pytest.raises(DataError, match=told):
            prepare(config(tmp_path / "short.txt", name))


def test_a_cache_that_cannot_be_written_is_named(text, monkeypatch):
    monkeypatch.setenv("GPTKIT_CACHE", str(text))  # a file
    with pytest.raises(DataError, match="Set GPTKIT_CACHE"):
        prepare(config(text))


def test_the_carried_text_needs_no_torch():
    code = (
        "import sys\nfrom gptkit.text.shards import prepare\n"
        "d = prepare({'data': {'name': 'shakespeare'}, 'tokenizer': {'name': 'char'}})\n"
        "assert 'torch' not in sys.modules\nprint(len(d.train), len(d.val))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    train, val = map(int, done.stdout.split())
    assert math.isclose(val / (train + val), 0.1, abs_tol=1e-4)


def test_datasets_are_plain_arrays(text):
    data = prepare(config(text))
    assert isinstance(data, Dataset)
    assert type(data.train) is np.ndarray
    assert not data.train.flags.writeable
