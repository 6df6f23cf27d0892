"""What every tokenizer does."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gptkit import files
from gptkit.errors import DataError, UserError

DESCRIPTION = "tokenizer.json"
_LARGEST = 1 << 28


class Tokenizer(ABC):
    """Text to token numbers and back.

    Attributes:
        name: as registered.
        vocab_size: token numbers run from 0 up to but not this.
        end_of_text: the token that ends a document, or None. Its text in a document is plain text.
        begin_of_text: the token that a prompt is read after, where the model was trained so, or None.
        needs_corpus: the vocabulary is made from the text by `fit`.
        forgets: characters that its format takes for others, so that they do not come back.
    """

    name: ClassVar[str]
    needs_corpus: ClassVar[bool] = False
    forgets: ClassVar[str] = ""
    vocab_size: int = 0
    end_of_text: int | None = None
    begin_of_text: int | None = None

    @abstractmethod
    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token numbers of a text.

        Args:
            text: any text; a lone surrogate is read as U+FFFD, the replacement character.
            special: read `<|endoftext|>` as the end of a document instead of as plain text.

        Raises:
            DataError: the vocabulary cannot spell the text.
        """

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes that a token stands for, perhaps a part of a character.

        A number that no token has, such as one that pads the vocabulary, stands for nothing.
        """

    def encode_batch(self, texts: Sequence[str], special: bool = False) -> list[list[int]]:
        """`encode` for several texts."""
        return [self.encode(text, special) for text in texts]

    def encode_array(self, text: str) -> np.ndarray:
        """`encode` as an array of whole numbers, for long texts."""
        return np.asarray(self.encode(text), dtype=np.int64)

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """The bytes that tokens stand for, one after another."""
        return b"".join(self.token_bytes(int(token)) for token in tokens)

    def decode(self, tokens: Iterable[int], errors: str = "replace") -> str:
        """The text of tokens; what is no UTF-8 becomes U+FFFD, or as `errors` says."""
        return self.decode_bytes(tokens).decode("utf-8", errors)

    def fit(self, texts: Iterable[str]) -> None:
        """Make the vocabulary from documents; the same documents make the same one."""
        raise TypeError(f"{self.name} has a fixed vocabulary.")

    def options(self) -> dict[str, Any]:
        """The options that it was made with."""
        return {}

    def state(self) -> dict[str, bytes]:
        """Files that hold what `fit` or a download made, by name."""
        return {}

    def set_state(self, state: dict[str, bytes]) -> None:
        """Take up what `state` gave."""

    def hugging_face(self) -> dict[str, bytes]:
        """The files, by name, from which libraries of Hugging Face make the same tokenizer.

        Raises:
            UserError: none of their files holds it.
        """
        raise UserError(f"No tokenizer.json holds tokenizer={self.name}.")

    def fingerprint(self) -> str:
        """A digest of all that decides how text is encoded."""
        digest = hashlib.sha256(json.dumps([self.name, self.options()], sort_keys=True).encode())
        for name, data in sorted(self.state().items()):
            digest.update(name.encode() + hashlib.sha256(data).digest())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write a folder from which `load_tokenizer` makes the same tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        state = self.state()
        for name, data in state.items():
            files.write_bytes(folder / name, data)
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in state.items()}
        files.write_json(folder / DESCRIPTION, {"name": self.name, "options": self.options(), "files": sums})

    def restore(self, folder: Path, sums: dict[str, str]) -> None:
        """Take up the state that `save` wrote.

        Raises:
            DataError: a file is not what was saved.
        """
        state = {name: files.read_bytes(files.within(folder, name), _LARGEST) for name in sums}
        for name, data in state.items():
            if hashlib.sha256(data).hexdigest() != sums[name]:
                raise DataError(f"{folder / name} is not the file that was saved: its sha256 differs.")
        self.set_state(state)


def plain(text: str) -> str:
    """The text with lone surrogates, which no encoding can hold, replaced by U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
