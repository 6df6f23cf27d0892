"""tokenizer.json: the library's own numbers, texts that come back, special texts that stay plain."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptkit.errors import DataError, UserError
from gptkit.text.tokenizers import build_tokenizer, load_tokenizer

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

TEXT = "To be, or not to be: that is the question.\nL'été, où êtes-vous? 東京 🙂\n"
KINDS = ("bytes", "llama", "words", "pieces", "unigram", "suffix")
EXACT = ("bytes", "llama")


def library(kind: str) -> Any:
    """A small tokenizer of each make, with `</s>` to end a document."""
    special: Any = {"special_tokens": ["<unk>", "</s>"], "show_progress": False}
    if kind == "bytes":
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer: Any = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, **special)
    elif kind == "llama":
        letters = [f"<0x{byte:02X}>" for byte in range(256)] + [
            "▁",
            *"tobe</s>",
            "to",
            "be",
            "▁to",
            "</",
            "s>",
            "</s>",
        ]
        vocabulary = {"<unk>": 0, "<s>": 1, **{text: n for n, text in enumerate(dict.fromkeys(letters), 2)}}
        merges = [("t", "o"), ("b", "e"), ("▁", "to"), ("<", "/"), ("s", ">"), ("</", "s>")]
        made = tokenizers.Tokenizer(
            models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        )
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        made.add_special_tokens(["<unk>", "<s>", "</s>"])
        made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
        return made
    elif kind == "words":
        made = tokenizers.Tokenizer(models.WordLevel(unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(**special)
    elif kind == "pieces":
        made = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece(cleanup=False)
        trainer = trainers.WordPieceTrainer(vocab_size=100, **special)
    elif kind == "unigram":
        made = tokenizers.Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=80, unk_token="<unk>", **special)
    else:
        made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        made.decoder = decoders.BPEDecoder()
        trainer = trainers.BpeTrainer(vocab_size=80, end_of_word_suffix="</w>", **special)
    made.train_from_iterator([TEXT, "< / s >"] * 3, trainer)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, tuple[Any, Any]]:
    """The library's tokenizer and ours of the same file, by kind."""
    folder, found = tmp_path_factory.mktemp("files"), {}
    for kind in KINDS:
        theirs = library(kind)
        theirs.save(str(folder / f"{kind}.json"))
        found[kind] = theirs, part(folder / f"{kind}.json")
    return found


def part(path: Path, **options: Any) -> Any:
    return build_tokenizer({"name": "hugging_face", "path": str(path), **options}, None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_and_the_text_are_the_librarys(made, kind):
    theirs, ours = made[kind]
    for text in (TEXT, "To be", " to  be ", "to be to", "", "東京"):
        expected = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == expected
        assert ours.decode(expected) == theirs.decode(expected, skip_special_tokens=False)
    assert ours.vocab_size == theirs.get_vocab_size()
    assert ours.token_bytes(ours.vocab_size) == ours.token_bytes(-1) == ours.token_bytes(10**12) == b""


@pytest.mark.parametrize("kind", EXACT)
@given(text=st.text())
@settings(max_examples=150, deadline=None)
def test_any_text_comes_back(made, kind, text):
    if kind == "llama":
        text = text.replace("▁", " ")
    known = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    ours = made[kind][1]
    assert ours.decode(ours.encode(text)) == known


@pytest.mark.parametrize("kind", EXACT)
def test_every_unicode_scalar_comes_back(made, kind):
    everything = "".join(map(chr, [*range(0x2581), *range(0x2582, 0xD800), *range(0xE000, 0x110000)]))
    ours = made[kind][1]
    assert ours.decode(ours.encode(everything)) == everything


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["</s>", "to</s>be", "to </s> be", "</s></s>", "<|endoftext|>"])
def test_the_end_of_a_document_is_plain_text_unless_asked_for(made, kind, text):
    ours = made[kind][1]
    assert ours.token_bytes(ours.end_of_text).strip() == b"</s>"
    assert ours.end_of_text not in ours.encode(text)
    assert ours.encode(text, special=True).count(ours.end_of_text) == max(1, text.count("</s>"))
    if kind in EXACT:
        assert ours.decode(ours.encode(text)) == text
    assert ours.encode("to be", special=True) == ours.encode("to be")


def test_none_is_put_before_a_text(made):
    theirs, ours = made["llama"]
    assert theirs.encode("to be").ids == [1, *ours.encode("to be")]


def test_a_word_of_the_vocabulary_that_is_the_end_cannot_be_spelt(tmp_path):
    theirs = tokenizers.Tokenizer(models.WordLevel({"to": 0, "</s>": 1}))
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    theirs.add_special_tokens(["</s>"])
    theirs.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="'</s>' as plain text"):
        part(tmp_path).encode("to </s>")


def test_which_token_ends_a_document(tmp_path):
    theirs = library("bytes")
    theirs.add_tokens(["<done>"])  # plain, until it is chosen
    theirs.save(str(tmp_path / "tokenizer.json"))
    assert part(tmp_path).token_bytes(part(tmp_path).end_of_text) == b"</s>"
    chosen = part(tmp_path, end_of_text="<done>")
    assert chosen.encode("<done>", special=True) == [chosen.end_of_text] == [theirs.token_to_id("<done>")]
    assert chosen.end_of_text not in chosen.encode("<done>")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<done>"}}))
    assert part(tmp_path).end_of_text == chosen.end_of_text
    with pytest.raises(UserError, match="end_of_text='<none>' is not among"):
        part(tmp_path, end_of_text="<none>")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_needs_the_file_no_more(made, kind, tmp_path):
    made[kind][0].save(str(tmp_path / "tokenizer.json"))
    ours = part(tmp_path)
    ours.save(tmp_path / "one")
    (tmp_path / "tokenizer.json").unlink()
    loaded = load_tokenizer(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert loaded.fingerprint() == ours.fingerprint() == made[kind][1].fingerprint()
    assert loaded.encode(TEXT) == ours.encode(TEXT)
    assert (loaded.vocab_size, loaded.end_of_text) == (ours.vocab_size, ours.end_of_text)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_a_run_needs_the_file_no_more(tmp_path):
    library("bytes").save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "text.txt").write_text(TEXT * 20)
    words = (
        f"train tokenizer=hugging_face tokenizer.path={tmp_path} data=text data.path=text.txt logger=none "
        "model.d_model=16 model.n_layers=1 model.n_heads=2 model.context_length=16 trainer.max_steps=1 -q"
    )
    shell = [sys.executable, "-m", "gptkit"]
    subprocess.run([*shell, *words.split()], cwd=tmp_path, check=True)
    (tmp_path / "tokenizer.json").unlink()
    told = subprocess.run(
        [*shell, "generate", "prompt=To be", "max_tokens=3"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.startswith("To be")
    subprocess.run([*shell, "train", "resume=latest", "trainer.max_steps=2", "-q"], cwd=tmp_path, check=True)


def test_a_file_that_is_none_is_refused(tmp_path, made):
    whole = made["bytes"][0].to_str()
    contents = [
        "",
        "{}",
        "[]",
        "{",
        "\x80pickle",
        whole[:-9],
        '{"model": {}}',
        '{"added_tokens": 3}',
        "[" * 10**5,
    ]
    for content in [*contents, json.dumps({**json.loads(whole), "added_tokens": [{"content": 1}]})]:
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(DataError, match=r"no tokenizer\.json"):
            part(tmp_path)
    with pytest.raises(DataError, match=r"Set tokenizer\.path to tokenizer\.json"):
        part(tmp_path / "nowhere")
    odd = {
        **json.loads(whole),
        "decoder": {"type": "CTC", "pad_token": "", "word_delimiter_token": "|", "cleanup": True},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(odd))
    with pytest.raises(UserError, match="decoder CTC"):
        part(tmp_path)


def test_a_saved_one_without_its_file_is_refused(made, tmp_path):
    made["bytes"][1].save(tmp_path)
    told = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**told, "files": {}}))
    with pytest.raises(DataError, match="no tokenizer that gptkit saved"):
        load_tokenizer(tmp_path)
    with pytest.raises(UserError, match=r"Set tokenizer\.path"):
        build_tokenizer({"name": "hugging_face", "path": ""}, None).encode("a")


def test_it_asks_for_its_library(made, tmp_path, monkeypatch):
    made["bytes"][0].save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match="pip install tokenizers"):
        part(tmp_path)


def test_a_link_that_a_download_made_is_followed(made, tmp_path):
    made["bytes"][0].save(str(tmp_path / "blob"))
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "tokenizer.json").symlink_to(tmp_path / "blob")
    assert part(tmp_path / "snapshot").encode("be") == made["bytes"][1].encode("be")
    shutil.rmtree(tmp_path / "snapshot")
