"""Tokenizers of Hugging Face's `tokenizers` library, from a `tokenizer.json`; nothing in it is run."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any, ClassVar

from gptkit.errors import DataError, UserError
from gptkit.registry import register
from gptkit.text.tokenizers.ranks import byte_letters
from gptkit_tokenizer_files.from_file import FromFile

_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>", "[EOS]", "<|eos|>")
_SILENT = {"Fuse", "Strip"}  # what they do to a whole text, decoding does


@register("tokenizer", "hugging_face")
class HuggingFaceTokenizer(FromFile):
    """A tokenizer from a `tokenizer.json`, by Hugging Face's `tokenizers` library.

    The file is kept whole with each model that is saved, so it is read once. The texts of its special
    tokens are plain text, and none is put before or after a text. Every text comes back from a
    byte-level BPE. It does not where the file's own design forgets: a normaliser (NFC, lower-casing), a
    space that is put only before texts that begin without one, `▁` (U+2581) where that stands for
    spaces, and characters without a token.

    Args:
        path: `tokenizer.json`, or the folder that holds it.
        end_of_text: the text of the special token that ends a document; null takes what a
            `tokenizer_config.json` beside the file says, or a usual one such as `<|endoftext|>` or `</s>`.
        begin_of_text: the text of the special token that prompts are read after; null takes what that
            file or this one says, and an empty text none.
    """

    name = "hugging_face"
    file = "tokenizer.json"
    kept = "hugging_face.json"
    examples: ClassVar = [{"path": str(Path(__file__).with_name("examples"))}]

    def __init__(
        self, *, path: str, end_of_text: str | None = None, begin_of_text: str | None = None
    ) -> None:
        super().__init__(path, end_of_text, begin_of_text)

    def _open(self, data: bytes) -> None:
        try:
            import tokenizers
        except ImportError:
            raise UserError(
                "tokenizer=hugging_face needs the `tokenizers` library: pip install tokenizers."
            ) from None
        try:
            told = json.loads(data)
            added = {entry["content"]: entry for entry in told.get("added_tokens") or []}
            unknown = told["model"].get("unk_token")
            marks = {text for text, entry in added.items() if entry["special"]}
            marks |= {self._wanted} if self._wanted in added else set()
            marks -= {unknown}
            for text in marks:
                added[text]["special"] = True
            _unreachable(told["model"], marks)
            library = tokenizers.Tokenizer.from_str(json.dumps(told))
            vocabulary = library.get_vocab(with_added_tokens=True)
            self.special = {text: vocabulary[text] for text in sorted(marks)}
            self._added = {vocabulary[text]: text for text in added}
            self._unknown = told["model"].get("unk_id") if unknown is None else vocabulary.get(unknown)
            self._steps = list(_steps(told.get("decoder")))
            self._apart = self._leads = any(kind == "words" for kind, _, _ in self._steps)
            self._trails = any(kind == "suffix" for kind, _, _ in self._steps)
        except BaseException as error:  # a panic of the library is no Exception
            if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError, UserError)):
                raise
            reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
            raise DataError(f"tokenizer=hugging_face: the file is no tokenizer.json: {reason}.") from None
        library.no_truncation()
        library.no_padding()
        library.encode_special_tokens = True  # as plain text
        self._library = library
        self._marked = frozenset(self.special.values())
        self._letters = byte_letters()
        self.vocab_size = max(vocabulary.values(), default=-1) + 1

    def _end(self, wanted: str | None) -> int | None:
        if wanted is not None and wanted not in self.special:
            raise UserError(
                f"tokenizer=hugging_face: end_of_text={wanted!r} is not among the file's added tokens. "
                f"Its special tokens: {', '.join(self.special) or 'none'}."
            )
        return self.special.get(wanted or next((text for text in _ENDS if text in self.special), ""))

    def _begin(self) -> str:
        """What the file's post-processor puts first."""
        with contextlib.suppress(Exception):
            first = self._library.encode("", add_special_tokens=True).ids[:1]
            return next((text for text, token in self.special.items() if [token] == first), "")
        return ""

    def hugging_face(self) -> dict[str, bytes]:
        return {self.file: self.state()[self.kept]}

    def _ids(self, text: str) -> list[int]:
        try:
            tokens = self._library.encode(text, add_special_tokens=False).ids
        except Exception as error:  # such as an unknown word where there is no token for those
            raise DataError(f"tokenizer=hugging_face cannot spell this text: {error}.") from None
        if self._marked.isdisjoint(tokens):
            return tokens
        if self._unknown is None:  # a word of its vocabulary is spelt as a special token
            spelt = next(self._added[token] for token in tokens if token in self._marked)
            raise DataError(f"tokenizer=hugging_face cannot spell {spelt!r} as plain text. Leave it out.")
        return [self._unknown if token in self._marked else token for token in tokens]

    def _spell(self, token: int) -> bytes:
        text = self._library.id_to_token(token)
        if text is None:
            return b""
        if token in self._added:
            return (b" " if self._apart else b"") + self._added[token].encode()
        for kind, old, new in self._steps:
            if kind == "ByteLevel" and all(letter in self._letters for letter in text):
                return bytes(self._letters[letter] for letter in text)
            if kind == "ByteFallback" and (found := _BYTE.fullmatch(text)):
                return bytes([int(found[1], 16)])
            if kind == "words":
                text = text.removeprefix(old) if old and text.startswith(old) else " " + text
            elif kind in ("replace", "suffix"):
                text = text.replace(old, new)
        return text.encode()


def _unreachable(model: dict[str, Any], marks: set[str]) -> None:
    """Change a model so that no text is read as one of these tokens."""
    if model.get("type") == "BPE":
        pair = {False: lambda merge: "".join(merge), True: lambda merge: merge.replace(" ", "", 1)}
        model["merges"] = [m for m in model["merges"] if pair[isinstance(m, str)](m) not in marks]
    elif model.get("type") == "Unigram":
        model["vocab"] = [[text, -1e6 if text in marks else score] for text, score in model["vocab"]]


def _steps(decoder: dict[str, Any] | None) -> Any:
    """How a token's own text becomes what it stands for, as (kind, old, new).

    Raises:
        UserError: by a decoder that does not work token by token.
    """
    kind = None if decoder is None else decoder["type"]
    if decoder is None:
        yield "words", "", ""
    elif kind == "Sequence":
        for one in decoder["decoders"]:
            yield from _steps(one)
    elif kind in ("ByteLevel", "ByteFallback"):
        yield kind, "", ""
    elif kind == "WordPiece":
        yield "words", decoder["prefix"], ""
    elif kind == "BPEDecoder":
        yield "suffix", decoder["suffix"], " "
    elif kind == "Metaspace":
        yield "replace", decoder["replacement"], " "
    elif kind == "Replace" and "String" in decoder["pattern"]:
        yield "replace", decoder["pattern"]["String"], decoder["content"]
    elif kind not in _SILENT:
        raise UserError(
            f"tokenizer=hugging_face: its decoder {kind} does not say what each token stands for alone. "
            "It decodes ByteLevel, ByteFallback, WordPiece, BPEDecoder, Metaspace and Replace of a string."
        )
