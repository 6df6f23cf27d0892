"""What tokenizers from a file share: the file is read once and kept with every model that uses it."""

from __future__ import annotations

import contextlib
import json
import re
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from string import ascii_letters
from typing import Any, ClassVar

from gptkit import files
from gptkit.errors import DataError, UserError
from gptkit.text.tokenizers.base import Tokenizer, plain
from gptkit.text.tokenizers.plain import END_OF_TEXT

_LARGEST = 1 << 28


class FromFile(Tokenizer):
    """A tokenizer whose vocabulary is one file.

    Attributes:
        file: its name in a folder.
        kept: its name beside a saved model.
        special: the tokens that no text is read as, by their text.
    """

    file: ClassVar[str]
    kept: ClassVar[str]

    def __init__(self, path: str, end_of_text: str | None, begin_of_text: str | None) -> None:
        self.special: dict[str, int] = {}
        self._leads = self._trails = False  # encoding puts a space before or after a text
        self._wanted, self._first, self._data = end_of_text, begin_of_text, b""
        if path:
            place = Path(path).expanduser()
            place = place / self.file if place.is_dir() else place
            told = _config_beside(place)
            if end_of_text is None:
                self._wanted = told.get("eos_token")
            if begin_of_text is None and "add_bos_token" in told:
                self._first = told.get("bos_token") if told["add_bos_token"] else ""
            self._take(_read(place, self.name, self.file))

    @abstractmethod
    def _open(self, data: bytes) -> None:
        """Take up the file's content: set `vocab_size` and `special`."""

    @abstractmethod
    def _spell(self, token: int) -> bytes:
        """What a token between 0 and `vocab_size` stands for."""

    @abstractmethod
    def _ids(self, text: str) -> list[int]:
        """The tokens of a text, none of them special."""

    @abstractmethod
    def _end(self, wanted: str | None) -> int | None:
        """The token that ends a document: the one wanted, or the file's own."""

    def _begin(self) -> str:
        """The text of the token that the file itself puts first, or nothing."""
        return ""

    def _take(self, data: bytes) -> None:
        self._spelt: dict[int, bytes] = {}
        self._open(data)
        self._data = data
        self.end_of_text = self._end(self._wanted)
        if self.end_of_text is not None:
            self._wanted = next(text for text, token in self.special.items() if token == self.end_of_text)
            self.special = {END_OF_TEXT: self.end_of_text, **self.special}
        signs = sorted(self.special, key=len, reverse=True)
        self._signs = re.compile(f"({'|'.join(map(re.escape, signs))})") if signs else None
        self._first = self._begin() if self._first is None else self._first
        if self._first and self._first not in self.special:
            raise UserError(
                f"tokenizer={self.name}: begin_of_text={self._first!r} is not among its special tokens: "
                f"{', '.join(self.special) or 'it has none'}."
            )
        self.begin_of_text = self.special.get(self._first)
        for letter in ascii_letters:  # one that has a token may be found among them
            with contextlib.suppress(DataError):
                alone = b"".join(map(self.token_bytes, self._ids(letter)))
                self._leads |= alone == b" " + letter.encode()
                self._trails |= alone == letter.encode() + b" "

    def encode(self, text: str, special: bool = False) -> list[int]:
        self.state()
        if not special or self._signs is None:
            return self._ids(plain(text))
        tokens: list[int] = []
        for piece in self._signs.split(plain(text)):
            tokens += [self.special[piece]] if piece in self.special else self._ids(piece)
        return tokens

    def token_bytes(self, token: int) -> bytes:
        if not 0 <= token < self.vocab_size:
            return b""
        if token not in self._spelt:
            self._spelt[token] = self._spell(token)
        return self._spelt[token]

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        data = super().decode_bytes(tokens)
        data = data[1:] if self._leads and data[:1] == b" " else data
        return data[:-1] if self._trails and data[-1:] == b" " else data

    def options(self) -> dict[str, Any]:
        return {"path": "", "end_of_text": self._wanted, "begin_of_text": self._first}

    def state(self) -> dict[str, bytes]:
        if not self._data:
            raise UserError(
                f"tokenizer={self.name} has no file. Set tokenizer.path to {self.file} or its folder; "
                "a model that was saved brings its own."
            )
        return {self.kept: self._data}

    def set_state(self, state: dict[str, bytes]) -> None:
        self._take(state[self.kept])


def _config_beside(place: Path) -> dict[str, Any]:
    """What a `tokenizer_config.json` beside the file says, tokens by their texts."""
    try:
        told = json.loads((place.parent / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    told = told if isinstance(told, dict) else {}
    return {key: value.get("content") if isinstance(value, dict) else value for key, value in told.items()}


def _read(place: Path, name: str, file: str) -> bytes:
    """The file's bytes; a link that the user points at is followed, as downloads' caches are made of them."""
    try:
        return files.read_bytes(place.resolve(strict=True), _LARGEST)
    except OSError as error:
        raise DataError(
            f"tokenizer={name}: {place} cannot be read: {files.cause(error)}. "
            f"Set tokenizer.path to {file} or the folder that holds it."
        ) from None
    except ValueError as error:
        raise DataError(f"tokenizer={name}: {place} cannot be read: {error}.") from None
