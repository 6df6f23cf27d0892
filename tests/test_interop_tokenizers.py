"""Tokenizers of Hugging Face's folders, both ways: the same numbers there and here."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gptkit
from gptkit import registry
from gptkit.cli import main
from gptkit.errors import UserError
from gptkit.text.tokenizers import build_tokenizer, ranks
from gptkit.text.tokenizers.tokenizer_json import byte_pairs

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

TEXT = "To be, or not to be: that is the question.\nL'été, où êtes-vous? 東京 🙂\n"
TEXTS = [TEXT, "to be", " to  be ", "a\r\n\r\n  b", "it's IT'S 12345 ", "", "\u3000x\u2028", "e\u0301ﬁ"]
SIZES = [
    "model.n_layers=1",
    "model.d_model=16",
    "model.n_heads=2",
    "model.d_ff=24",
    "model.context_length=32",
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


class Lines:
    """As much of a corpus as `build_tokenizer` asks for."""

    def all_documents(self) -> Any:
        return iter([TEXT] * 3)


def model_of(tokenizer: Any, preset: str = "llama2_7b") -> gptkit.GPT:
    """A small model of a family that speaks in these tokens."""
    words = [f"model={preset}", "model.n_kv_heads=null", "model.d_head=null", *SIZES]
    config = gptkit.compose([*words, f"model.vocab_size={tokenizer.vocab_size + 3}", "tokenizer=byte"])
    model = gptkit.build({"model": config["model"]})
    model.tokenizer = tokenizer
    return model.eval()


def sentence_piece(**options: Any) -> bytes:
    sentencepiece = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines() * 20), model_writer=written, minloglevel=2, num_threads=1,
        hard_vocab_limit=False, **{"vocab_size": 320, **options},
    )  # fmt: skip
    return written.getvalue()


def llama_file(folder: Path) -> Any:
    """A `tokenizer.model` as of Llama 2, with what stands beside it."""
    data = sentence_piece(
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
    )
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(data)
    told = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return build_tokenizer({"name": "sentencepiece", "path": str(folder)}, None)


def tokenizer_file(folder: Path) -> Any:
    """A byte-level `tokenizer.json` whose post-processor puts a token first, as of Llama 3."""
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    made.train_from_iterator(
        [TEXT] * 3,
        trainers.BpeTrainer(
            vocab_size=290, initial_alphabet=alphabet, special_tokens=special, show_progress=False
        ),
    )
    made.post_processor = processors.TemplateProcessing(f"{special[0]} $A", special_tokens=[(special[0], 0)])
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return build_tokenizer({"name": "hugging_face", "path": str(folder)}, None)


@pytest.mark.parametrize("make", [tokenizer_file, llama_file])
def test_there_and_back_with_the_same_numbers(make: Any, tmp_path: Path, caplog: Any) -> None:
    ours = make(tmp_path / "files")
    gptkit.save_hf(model_of(ours), "there", "llama")
    assert not caplog.records
    theirs = transformers.AutoTokenizer.from_pretrained("there")
    again = gptkit.load_hf("there").tokenizer
    assert again is not None
    assert theirs.eos_token_id == ours.end_of_text == again.end_of_text
    assert theirs.bos_token_id == ours.begin_of_text == again.begin_of_text
    for text in TEXTS:
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text) == again.encode(text)
    assert theirs("to be")["input_ids"] == [ours.begin_of_text, *ours.encode("to be")]


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer.model"])
def test_a_file_is_written_back_as_it_was(file: str, tmp_path: Path) -> None:
    make = tokenizer_file if file == "tokenizer.json" else llama_file
    ours = make(tmp_path / "files")
    gptkit.save_hf(model_of(ours), "there", "llama")
    assert Path("there", file).read_bytes() == Path("files", file).read_bytes()


@pytest.mark.parametrize("make", [tokenizer_file, llama_file])
def test_an_imported_model_speaks(make: Any, tmp_path: Path, capsys: Any) -> None:
    ours = make(tmp_path / "files")
    model = model_of(ours)
    gptkit.save_hf(model, "there", "llama")
    if make is llama_file:
        Path("there/tokenizer.json").unlink()
    name = {tokenizer_file: "hugging_face", llama_file: "sentencepiece"}[make]
    assert main(["import", "from=there", "out=mine"]) == 0
    assert f"tokenizer {name}" in capsys.readouterr().out
    for path in Path("there").iterdir():
        path.unlink()
    loaded = gptkit.load("mine")
    assert loaded.tokenizer is not None
    assert [loaded.tokenizer.encode(text) for text in TEXTS] == [ours.encode(text) for text in TEXTS]
    assert main(["generate", "run=mine", "prompt=to be", "max_tokens=4"]) == 0
    assert capsys.readouterr().out.startswith("to be")


def test_a_prompt_begins_as_the_model_was_trained(tmp_path: Path) -> None:
    from gptkit.generate.prompts import prompt_rows

    ours = tokenizer_file(tmp_path / "files")
    size = ours.vocab_size
    assert prompt_rows(ours, ["to be", ""], size) == [[0, *ours.encode("to be")], [0]]
    assert prompt_rows(ours, [3, 4], size) == [[3, 4]]
    told = {"name": "hugging_face", "path": "files", "begin_of_text": ""}
    assert prompt_rows(build_tokenizer(told, None), "to", size) == [ours.encode("to")]
    with pytest.raises(UserError, match="begin_of_text='<x>'"):
        build_tokenizer({**told, "begin_of_text": "<x>"}, None)


@pytest.mark.parametrize("name", ["gpt2", "bpe", "byte"])
def test_our_own_are_written_where_a_file_holds_them(name: str, caplog: Any) -> None:
    options = {"size": 300} if name == "bpe" else {}
    ours = build_tokenizer({"name": name, **options}, Lines())  # type: ignore[arg-type]
    gptkit.save_hf(model_of(ours, "gpt2"), "there")
    if name == "byte":
        assert "No tokenizer is written to there: No tokenizer.json holds tokenizer=byte." in caplog.text
        assert not list(Path("there").glob("tokenizer*"))
        return
    theirs = transformers.AutoTokenizer.from_pretrained("there")
    assert [theirs(text)["input_ids"] for text in TEXTS] == [ours.encode(text) for text in TEXTS]
    assert theirs.eos_token_id == ours.end_of_text
    assert theirs("a<|endoftext|>")["input_ids"] == ours.encode("a<|endoftext|>", special=True)
    assert [theirs.decode(ours.encode(text)) for text in TEXTS] == TEXTS


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[Any, Any]]:
    """tiktoken's encoding and our file of it, for each way of cutting words, with GPT-2's ranks."""
    import tiktoken

    _, table, _ = registry.load("tokenizer", "gpt2")().table()
    patterns = {"gpt2": ranks.GPT2_PATTERN, "cl100k": ranks._CL100K, "o200k": ranks._O200K}
    found = {}
    for name, pattern in patterns.items():
        special = {"<|endoftext|>": 50300, "<|endofprompt|>": 50256}  # with a gap before the end
        theirs = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=table, special_tokens=special)
        found[name] = theirs, tokenizers.Tokenizer.from_str(byte_pairs(pattern, table, special).decode())
    return found


@pytest.mark.parametrize("name", ["gpt2", "cl100k", "o200k"])
@given(
    text=st.text()
    | st.text(" \n\r\t'stdmlrveSTDMLRVE.,/12345aé東🙂\u0301ſ\u3000٣ʰ", max_size=30)
    | st.lists(st.sampled_from(["'ll", "\r\n", "  ", " a", "12", "//", "été", "\n ", "'S"])).map("".join)
)
@settings(max_examples=300, deadline=None)
def test_every_text_has_tiktokens_numbers(shapes: Any, name: str, text: str) -> None:
    theirs, ours = shapes[name]
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert ours.encode(text).ids == theirs.encode(text, allowed_special="all")


@pytest.mark.parametrize("name", ["gpt2", "cl100k", "o200k"])
def test_every_character_has_tiktokens_numbers(shapes: Any, name: str) -> None:
    theirs, ours = shapes[name]
    characters = [
        chr(n) for n in [*range(0x3500), *range(0xE000, 0x20000, 7), *range(0x20000, 0x110000, 997)]
    ]
    text = "".join(f" {c}a{c}1{c}\n" for c in characters if not 0xD800 <= ord(c) < 0xE000)
    assert ours.encode(text).ids == theirs.encode(text, disallowed_special=())
    marks = theirs.encode("<|endoftext|>a<|endofprompt|>", allowed_special="all")
    assert ours.encode("<|endoftext|>a<|endofprompt|>").ids == marks == [50300, 64, 50256]


@pytest.mark.parametrize("name", ["p50k_base", "cl100k_base", "o200k_base"])
def test_published_ones_are_written(name: str) -> None:
    part = registry.load("tokenizer", name)()
    key = hashlib.sha1(f"{ranks._HOST}/encodings/{name}.tiktoken".encode()).hexdigest()
    import os

    if not (Path(os.environ.get("TIKTOKEN_CACHE_DIR", "/tmp/data-gym-cache")) / key).is_file():
        pytest.skip(f"{name} is not in tiktoken's cache")
    theirs = tokenizers.Tokenizer.from_str(part.hugging_face()["tokenizer.json"].decode())
    assert [theirs.encode(text).ids for text in TEXTS] == [part.encode(text) for text in TEXTS]


def test_without_the_plugin_or_its_library_the_model_comes_alone(
    tmp_path: Path, caplog: Any, monkeypatch: Any
) -> None:
    gptkit.save_hf(model_of(tokenizer_file(tmp_path / "files")), "there", "llama")
    with monkeypatch.context() as changed:
        changed.setitem(__import__("sys").modules, "tokenizers", None)
        assert main(["import", "from=there", "out=bare"]) == 0
    assert "tokenizer.json is not read: tokenizer=hugging_face needs the `tokenizers` library" in caplog.text
    assert gptkit.load("bare").tokenizer is None
    found = registry.catalogue()
    lacking = {key: parts for key, parts in found.parts.items() if key[1] != "hugging_face"}
    monkeypatch.setattr(found, "parts", lacking)
    monkeypatch.delitem(registry._registered, ("tokenizer", "hugging_face"), raising=False)
    caplog.clear()
    assert gptkit.load_hf("there").tokenizer is None
    assert "the plugin gptkit-tokenizer-files brings tokenizer=hugging_face" in caplog.text


def test_what_does_not_fit_is_not_taken(tmp_path: Path, caplog: Any) -> None:
    ours = tokenizer_file(tmp_path / "files")
    gptkit.save_hf(model_of(ours), "there", "llama")
    larger = tokenizers.Tokenizer.from_file("there/tokenizer.json")
    larger.add_special_tokens([f"<{n}>" for n in range(9)])
    larger.save("there/tokenizer.json")
    assert gptkit.load_hf("there").tokenizer is None
    assert (
        f"it has {ours.vocab_size + 9} tokens, but the model has rows for {ours.vocab_size + 3}"
        in caplog.text
    )
    Path("there/tokenizer.json").write_bytes(b"\x80\x04cos\nsystem\n.")
    assert gptkit.load_hf("there").tokenizer is None
    assert "no tokenizer.json" in caplog.text


def test_one_that_transformers_would_change_is_said_to_be_so(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "tokenizer.model").write_bytes(sentence_piece(model_type="unigram", vocab_size=60))
    ours = build_tokenizer({"name": "sentencepiece", "path": str(tmp_path)}, None)
    gptkit.save_hf(model_of(ours), "there", "llama")
    assert "gives other tokens for some texts" in caplog.text
    assert not Path("there/tokenizer.json").exists()
    again = gptkit.load_hf("there").tokenizer
    assert again is not None
    assert again.fingerprint() == ours.fingerprint()


def test_the_words_of_a_user_come_first(tmp_path: Path, capsys: Any) -> None:
    gptkit.save_hf(model_of(tokenizer_file(tmp_path / "files")), "there", "llama")
    assert main(["import", "from=there", "out=none", "tokenizer=none"]) == 0
    assert gptkit.load("none").tokenizer is None
    assert main(["import", "from=there", "out=bytes", "tokenizer=byte"]) == 0
    assert gptkit.load("bytes").tokenizer.name == "byte"  # type: ignore[union-attr]
    assert torch.equal(gptkit.load("none").embedding.weight, gptkit.load("bytes").embedding.weight)
