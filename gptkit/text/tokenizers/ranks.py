"""Byte-pair encodings, encoded by tiktoken: GPT-2's, its successors', and ones made from the corpus."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import os
import queue
import re
import tempfile
import threading
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gptkit import files
from gptkit.errors import DataError, UserError
from gptkit.registry import register
from gptkit.text.tokenizers.base import Tokenizer, plain
from gptkit.text.tokenizers.plain import END_OF_TEXT

if TYPE_CHECKING:
    import tiktoken

RANKS = "ranks.tiktoken"
LONGEST_RUN = 10_000
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
_ASSETS = Path(__file__).resolve().parents[1] / "assets"
_HOST = "https://openaipublic.blob.core.windows.net"
_PATIENCE = 5.0  # seconds
_RUNS = re.compile(r"\s+|\S+")


class _BytePairs(Tokenizer):
    """A table of byte strings by rank, and tiktoken to apply it.

    A run of more than 10,000 characters, all white space or none, is cut there before it is encoded:
    tiktoken fails on a million spaces, and takes quadratic time on some runs. No other text changes.
    """

    @abstractmethod
    def table(self) -> tuple[str, dict[bytes, int], dict[str, int]]:
        """How text is cut into words, the rank of each byte string, and the special tokens."""

    @cached_property
    def encoding(self) -> tiktoken.Encoding:
        """tiktoken's own object; made when it is first needed."""
        import tiktoken

        pattern, ranks, special = self.table()
        return tiktoken.Encoding(self.name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)

    def encode(self, text: str, special: bool = False) -> list[int]:
        pieces = list(short_runs(plain(text)))
        if special:
            return [token for piece in pieces for token in self.encoding.encode(piece, allowed_special="all")]
        if len(pieces) == 1:
            return self.encoding.encode_ordinary(pieces[0])
        return [token for piece in pieces for token in self.encoding.encode_ordinary(piece)]

    def encode_batch(self, texts: Sequence[str], special: bool = False) -> list[list[int]]:
        if special or any(len(text) > LONGEST_RUN for text in texts):
            return super().encode_batch(texts, special)
        return self.encoding.encode_ordinary_batch([plain(text) for text in texts])

    def encode_array(self, text: str) -> np.ndarray:
        return np.asarray(self.encode(text), dtype=np.uint32)

    def hugging_face(self) -> dict[str, bytes]:
        from gptkit.text.tokenizers.tokenizer_json import byte_pairs

        pattern, ranks, special = self.table()
        return {"tokenizer.json": byte_pairs(pattern, ranks, special)}

    def token_bytes(self, token: int) -> bytes:
        try:
            return self.encoding.decode_single_token_bytes(token)
        except (KeyError, OverflowError):
            return b""  # a number that pads the vocabulary, or a gap in it

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        numbers = [int(token) for token in tokens]
        try:
            return self.encoding.decode_bytes(numbers)
        except (KeyError, OverflowError):
            return super().decode_bytes(numbers)


def short_runs(text: str) -> Iterator[str]:
    """The text in pieces, cut only inside runs of more than `LONGEST_RUN` like characters."""
    start = 0
    if len(text) > LONGEST_RUN:
        for run in _RUNS.finditer(text):
            for cut in range(run.start() + LONGEST_RUN, run.end(), LONGEST_RUN):
                yield text[start:cut]
                start = cut
    yield text[start:]


def parse_ranks(data: bytes) -> dict[bytes, int]:
    """A file of tiktoken's: a token in base64 and its rank in each line.

    Raises:
        ValueError: it is no such file.
    """
    pairs = (line.split() for line in data.splitlines() if line)
    return {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}


def dump_ranks(ranks: dict[bytes, int]) -> bytes:
    """The inverse of `parse_ranks`."""
    return b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in ranks.items())


@register("tokenizer", "gpt2")
class GPT2Tokenizer(_BytePairs):
    """GPT-2's 50,257 tokens (Radford et al. 2019); the ranks come with gptkit."""

    name = "gpt2"
    vocab_size = 50257
    end_of_text = 50256

    def __init__(self) -> None:
        pass

    def table(self) -> tuple[str, dict[bytes, int], dict[str, int]]:
        ranks = parse_ranks(gzip.decompress((_ASSETS / "gpt2.tiktoken.gz").read_bytes()))
        return GPT2_PATTERN, ranks, {END_OF_TEXT: len(ranks)}


class _Published(_BytePairs):
    """A later encoding of OpenAI's, from tiktoken's cache, or from what was saved with a model."""

    sha256: str
    _ranks: bytes | None = None

    def __init__(self) -> None:
        pass

    def table(self) -> tuple[str, dict[bytes, int], dict[str, int]]:
        pattern, special = _SHAPES[self.name]
        return pattern, parse_ranks(self._published()), {END_OF_TEXT: self.end_of_text or 0, **special}

    def _published(self) -> bytes:
        if self._ranks is None:
            self._ranks = published_ranks(self.name, self.sha256)
        return self._ranks

    def state(self) -> dict[str, bytes]:
        return {RANKS: self._published()}

    def set_state(self, state: dict[str, bytes]) -> None:
        if hashlib.sha256(state[RANKS]).hexdigest() != self.sha256:
            raise DataError(f"{RANKS} is not the table that OpenAI published as {self.name}.")
        self._ranks = state[RANKS]


def published_ranks(name: str, sha256: str) -> bytes:
    """The table of ranks from tiktoken's cache, downloaded into it if there is a network.

    Raises:
        DataError: it is not cached and cannot be downloaded; says what to do.
    """
    url = f"{_HOST}/encodings/{name}.tiktoken"
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            cache = Path(os.environ[variable])
            break
    else:
        cache = Path(tempfile.gettempdir()) / "data-gym-cache"
    key = hashlib.sha1(url.encode()).hexdigest()
    try:
        data = (cache / key).read_bytes()
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    except OSError:
        pass
    try:
        return _download(url, sha256, cache / key)
    except Exception as error:
        raise DataError(
            f"tokenizer={name} needs its published table of ranks, which is not in tiktoken's cache ({cache}) and "
            f"cannot be downloaded ({type(error).__name__}). Put the file {name}.tiktoken there under the name {key} "
            "and set TIKTOKEN_CACHE_DIR to that folder, or choose tokenizer=gpt2, which needs no download."
        ) from None


def _download(url: str, sha256: str, place: Path) -> bytes:
    """Fetch a file into tiktoken's cache; gives up after five seconds in which nothing came.

    Raises:
        Exception: of any kind, when it cannot be had.
    """
    import urllib.request

    received: queue.Queue[bytes | Exception] = queue.Queue()

    def fetch() -> None:
        try:
            with urllib.request.urlopen(url, timeout=_PATIENCE) as stream:
                while block := stream.read(1 << 16):
                    received.put(block)
            received.put(b"")
        except Exception as error:
            received.put(error)

    threading.Thread(target=fetch, daemon=True).start()  # a name server that does not answer has no timeout
    data = b""
    while block := received.get(timeout=_PATIENCE):
        if isinstance(block, Exception):
            raise block
        data += block
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("what came is not the published table")
    with contextlib.suppress(OSError):  # usable all the same where it cannot be kept
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(place, data)
    return data


_CONTRACTIONS = r"'(?i:[sdmt]|ll|ve|re)"
_CL100K = (
    _CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TAIL = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K = "|".join(
    [
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_TAIL}",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_TAIL}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
_FILL = {
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}
_SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "p50k_base": (GPT2_PATTERN, {}),
    "cl100k_base": (_CL100K, _FILL),
    "o200k_base": (_O200K, {"<|endofprompt|>": 200018}),
}


@register("tokenizer", "p50k_base")
class P50kBase(_Published):
    """GPT-3's code tokens: GPT-2's and runs of spaces; 50,281 of them."""

    name = "p50k_base"
    vocab_size = 50281
    end_of_text = 50256
    sha256 = "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069"


@register("tokenizer", "cl100k_base")
class Cl100kBase(_Published):
    """The tokens of GPT-3.5 and GPT-4: 100,277 of them."""

    name = "cl100k_base"
    vocab_size = 100277
    end_of_text = 100257
    sha256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"


@register("tokenizer", "o200k_base")
class O200kBase(_Published):
    """The tokens of GPT-4o: 200,019 of them."""

    name = "o200k_base"
    vocab_size = 200019
    end_of_text = 199999
    sha256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"


@register("tokenizer", "bpe")
class TrainedBPE(_BytePairs):
    """Byte-pair encoding made from the corpus (Sennrich et al. 2016), GPT-2's way of cutting words.

    The merges are found by the `tokenizers` library and applied by tiktoken. Every text can be spelt.

    Args:
        size: tokens of the vocabulary, the 256 bytes and the end of text among them.
    """

    name = "bpe"
    needs_corpus = True

    def __init__(self, *, size: int = 2048) -> None:
        if size < 257:
            raise UserError(f"bpe: size={size}, but 256 bytes and the end of text need 257 tokens.")
        self.size = size
        self._set({bytes([byte]): byte for byte in range(256)})

    def options(self) -> dict[str, int]:
        return {"size": self.size}

    def fit(self, texts: Iterable[str]) -> None:
        self._set(train_ranks((plain(text) for text in texts), self.size - 1))

    def _set(self, ranks: dict[bytes, int]) -> None:
        self.ranks = ranks
        self.vocab_size = len(ranks) + 1
        self.end_of_text = len(ranks)
        if "encoding" in vars(self):
            del self.encoding  # of the ranks before

    def table(self) -> tuple[str, dict[bytes, int], dict[str, int]]:
        return GPT2_PATTERN, self.ranks, {END_OF_TEXT: len(self.ranks)}

    def state(self) -> dict[str, bytes]:
        return {RANKS: dump_ranks(self.ranks)}

    def set_state(self, state: dict[str, bytes]) -> None:
        ranks = parse_ranks(state[RANKS])
        missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
        if missing or sorted(ranks.values()) != list(range(len(ranks))):  # tiktoken would panic later
            raise DataError(f"{RANKS} is no table of ranks 0, 1, 2, … that holds every byte.")
        self._set(ranks)


def train_ranks(texts: Iterable[str], size: int) -> dict[bytes, int]:
    """Byte-pair ranks of a corpus: the 256 bytes, then merges, most frequent first.

    Raises:
        UserError: the `tokenizers` library is not installed.
    """
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            "tokenizer=bpe finds its merges with the `tokenizers` library: pip install 'gptkit[bpe]'."
        ) from None
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = byte_level
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    model.train_from_iterator((piece for text in texts for piece in short_runs(text)), trainer)
    letters = byte_letters()
    ordered = sorted(model.get_vocab().items(), key=lambda entry: entry[1])
    merged = [bytes(letters[letter] for letter in token) for token, _ in ordered]
    ranks = {bytes([byte]): byte for byte in range(256)}
    for token in merged:
        if len(token) > 1:
            ranks.setdefault(token, len(ranks))
    return ranks


def byte_letters() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte, as `tokenizers` writes its tokens."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + n): byte for n, byte in enumerate(hidden)}
