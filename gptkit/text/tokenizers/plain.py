"""Tokenizers that need no merges: bytes, characters, words."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from gptkit import files
from gptkit.errors import DataError, check_options
from gptkit.registry import register
from gptkit.text.tokenizers.base import Tokenizer, plain

END_OF_TEXT = "<|endoftext|>"
VOCABULARY = "vocabulary.json"


@register("tokenizer", "byte")
class ByteTokenizer(Tokenizer):
    """One token for each byte of UTF-8: 256 tokens, every text can be spelt."""

    name = "byte"
    vocab_size = 256

    def __init__(self) -> None:
        pass

    def encode(self, text: str, special: bool = False) -> list[int]:
        return list(plain(text).encode("utf-8"))

    def encode_array(self, text: str) -> np.ndarray:
        return np.frombuffer(plain(text).encode("utf-8"), dtype=np.uint8)

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if 0 <= token < 256 else b""


@register("tokenizer", "char")
class CharTokenizer(Tokenizer):
    """One token for each character that the corpus holds, in the order of their code points."""

    name = "char"
    needs_corpus = True

    def __init__(self) -> None:
        self._set("")

    def fit(self, texts: Iterable[str]) -> None:
        seen: set[str] = set()
        for text in texts:
            seen.update(plain(text))
        self._set("".join(sorted(seen)))

    def _set(self, characters: str) -> None:
        self.characters = characters
        self.vocab_size = len(characters)
        self._numbers = {character: number for number, character in enumerate(characters)}
        self._bytes = [character.encode("utf-8") for character in characters]
        self._table = np.full(max(map(ord, characters), default=0) + 1, -1, dtype=np.int32)
        self._table[[ord(character) for character in characters]] = range(len(characters))

    def encode(self, text: str, special: bool = False) -> list[int]:
        try:
            return [self._numbers[character] for character in text]
        except KeyError:
            return self.encode_array(text).tolist()

    def encode_array(self, text: str) -> np.ndarray:
        points = np.frombuffer(plain(text).encode("utf-32-le"), dtype=np.uint32)
        inside = points < len(self._table)
        tokens = np.where(inside, self._table[np.where(inside, points, 0)], -1)
        if (tokens < 0).any():
            at = int(np.argmax(tokens < 0))
            raise DataError(
                f"The character {chr(points[at])!r} at place {at} is not among the {self.vocab_size} characters of "
                "the text that this tokenizer was made from. Leave it out, or train with tokenizer=byte."
            )
        return tokens

    def token_bytes(self, token: int) -> bytes:
        return self._bytes[token] if 0 <= token < self.vocab_size else b""

    def state(self) -> dict[str, bytes]:
        return {VOCABULARY: json.dumps(self.characters).encode()}

    def set_state(self, state: dict[str, bytes]) -> None:
        self._set(str(files.parse_json(state[VOCABULARY])))


@register("tokenizer", "word")
class WordTokenizer(Tokenizer):
    """One token for each word, run of white space, or other sign; the most frequent ones are kept.

    A text whose words are all known is spelt exactly; an unknown word becomes `<unk>`.

    Args:
        max_words: tokens to keep, `<unk>` and the end of text beside them.
        min_count: how often a word must stand in the corpus.
    """

    name = "word"
    needs_corpus = True
    end_of_text = 1
    expected_failures: ClassVar = dict.fromkeys(
        ("round_trips", "special_text_is_plain"), "a word that the corpus lacks becomes <unk>"
    )
    _pieces = re.compile(r"\w+|\s+|[^\w\s]")

    def __init__(self, *, max_words: int = 10000, min_count: int = 1) -> None:
        check_options(
            "tokenizer",
            ("max_words", max_words, "a whole number of at least 1", max_words >= 1),
            ("min_count", min_count, "a whole number of at least 1", min_count >= 1),
        )
        self.max_words, self.min_count = max_words, min_count
        self._set([])

    def options(self) -> dict[str, int]:
        return {"max_words": self.max_words, "min_count": self.min_count}

    def fit(self, texts: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self._pieces.findall(plain(text)))
        ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        self._set([word for word, count in ranked[: self.max_words] if count >= self.min_count])

    def _set(self, words: list[str]) -> None:
        self.words = ["<unk>", END_OF_TEXT, *words]
        self.vocab_size = len(self.words)
        self._numbers = {word: number + 2 for number, word in enumerate(words)}

    def encode(self, text: str, special: bool = False) -> list[int]:
        if special and END_OF_TEXT in text:
            first, *others = text.split(END_OF_TEXT)
            tokens = self.encode(first)
            for other in others:
                tokens += [1, *self.encode(other)]
            return tokens
        return [self._numbers.get(piece, 0) for piece in self._pieces.findall(plain(text))]

    def token_bytes(self, token: int) -> bytes:
        return self.words[token].encode("utf-8") if 0 <= token < self.vocab_size else b""

    def state(self) -> dict[str, bytes]:
        return {VOCABULARY: json.dumps(self.words[2:]).encode()}

    def set_state(self, state: dict[str, bytes]) -> None:
        self._set([str(word) for word in files.parse_json(state[VOCABULARY])])
