"""Corpora: files of every kind, the order they are read in, and what is said of broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptkit.errors import DataError
from gptkit.text.corpora import Shakespeare, TextFiles


def read(path: str | list[str], **options: str) -> list[str]:
    return list(TextFiles(path=path, **options).documents())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b.txt").write_bytes(b"second\r\n")
    (tmp_path / "a.md").write_text("first", "utf-8")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.jsonl").write_text(
        '{"text": "third"}\n\n{"text": "fourth \\ud83d\\ude42"}', "utf-8"
    )
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    return tmp_path


def test_a_folder_is_read_in_the_order_of_its_names(folder):
    assert read(str(folder)) == ["first", "second\n", "third", "fourth 🙂"]


def test_a_file_a_list_and_a_pattern(folder):
    assert read(str(folder / "b.txt")) == ["second\n"]
    assert read([str(folder / "b.txt"), str(folder / "a.md")]) == ["second\n", "first"]
    assert read(str(folder / "*.[mt]*")) == ["first", "second\n"]
    assert read(str(folder / "**" / "*.jsonl")) == ["third", "fourth 🙂"]
    assert read([str(folder / "a.md"), str(folder)]) == [
        "first",
        "second\n",
        "third",
        "fourth 🙂",
    ]  # once each


def test_parquet_rows_are_documents(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"body": ["one", "two"], "n": [1, 2]}), file)
    assert read(str(file), field="body") == ["one", "two"]
    with pytest.raises(DataError, match=r"no column 'boby'\. Did you mean 'body'\?"):
        read(str(file), field="boby")
    with pytest.raises(DataError, match="column 'n' holds int"):
        read(str(file), field="n")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="not a Parquet file"):
        read(str(file), field="body")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_no_utf8_are_named_with_their_place(tmp_path, mark):
    file = tmp_path / "latin1.txt"
    file.write_bytes(mark + "été".encode() + "é".encode("latin1") + b"!")
    with pytest.raises(DataError, match=rf"latin1\.txt: byte {len(mark) + 5} \(0xe9\) is not UTF-8.*iconv"):
        read(str(file))


def test_a_truncated_character_at_the_end_is_found(tmp_path):
    (tmp_path / "cut.txt").write_bytes(b"abc\xe2\x82")
    with pytest.raises(DataError, match=r"byte 3 \(0xe2\)"):
        read(str(tmp_path / "cut.txt"))


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfabc")
    (tmp_path / "bom.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "abc"}')
    assert read(str(tmp_path)) == ["abc", "abc"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"text": ', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"txt": "a"}', r"no field 'text'\. Did you mean 'txt'\?"),
        ('{"body": "a", "id": 1}', r"no field 'text'\. It has: body, id\."),
        ('["text"]', "no field 'text'"),
        ('{"text": null}', "is no text"),
        ('{"text": 7}', "is no text"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, told):
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"text": "good"}}\n\n{line}\n', "utf-8")
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 3: .*{told}"):
        read(str(file))


def test_bad_bytes_of_a_line_are_counted_from_the_start_of_the_file(tmp_path):
    first = b'{"text": "good"}\n'
    (tmp_path / "rows.jsonl").write_bytes(first + b'{"text": "\xff"}')
    with pytest.raises(DataError, match=rf"byte {len(first) + 10} \(0xff\)"):
        read(str(tmp_path / "rows.jsonl"))


def test_what_is_not_there_is_answered_with_what_is_near(folder):
    with pytest.raises(DataError, match=r"no such file\. Did you mean 'b\.txt'\?"):
        read(str(folder / "bb.txt"))
    with pytest.raises(DataError, match="no folder"):
        read(str(folder / "none" / "b.txt"))
    with pytest.raises(DataError, match=r"'\.png' are not read"):
        read(str(folder / "picture.png"))
    with pytest.raises(DataError, match="no such file"):
        read(str(folder / "*.parquet"))
    with pytest.raises(DataError, match="names no file"):
        read([])
    with pytest.raises(DataError, match="home"):
        read("~nobody-of-this-name/b.txt")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="lies in this folder"):
        read(str(folder / "empty"))
    with pytest.raises(DataError, match=r"no such file\.$"):
        read(str(folder / "empty" / "b.txt"))


def test_the_fingerprint_follows_the_content_and_nothing_else(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for place in ("one", "two"):
        (tmp_path / place / "a.txt").write_text("abc", "utf-8")
    one, two = (TextFiles(path=str(tmp_path / place)) for place in ("one", "two"))
    assert one.fingerprint() == two.fingerprint()
    known = {one.fingerprint(), TextFiles(path=str(tmp_path / "one"), field="body").fingerprint()}
    known.add(TextFiles(path=str(tmp_path / "one"), val_path=str(tmp_path / "two")).fingerprint())
    (tmp_path / "two" / "a.txt").write_text("abd", "utf-8")
    known.add(two.fingerprint())
    (tmp_path / "two" / "a.txt").rename(tmp_path / "two" / "a.jsonl")
    known.add(TextFiles(path=str(tmp_path / "two")).fingerprint())
    assert len(known) == 5


def test_validation_files_stand_apart(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "a"}), "utf-8")
    (tmp_path / "val.jsonl").write_text(json.dumps({"text": "b"}), "utf-8")
    corpus = TextFiles(path=str(tmp_path / "train.jsonl"), val_path=str(tmp_path / "val.jsonl"))
    assert (list(corpus.documents()), list(corpus.validation() or ())) == (["a"], ["b"])
    assert list(corpus.all_documents()) == ["a", "b"]


def test_the_package_carries_shakespeare():
    plays = list(Shakespeare().documents())
    assert len(plays) == 9
    assert 1_100_000 < sum(map(len, plays)) < 1_150_000
    assert all("\r" not in play and play.isascii() for play in plays)
    assert any("To be, or not to be" in play for play in plays)
