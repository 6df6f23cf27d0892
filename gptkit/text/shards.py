"""A corpus as two arrays of token numbers, made once and kept.

The arrays lie in a cache folder (`GPTKIT_CACHE`, else `~/.cache/gptkit`) under a name that follows
from the text, the tokenizer and the split, so that a changed text or tokenizer never meets an old
array. They are written aside and renamed; processes that need the same ones wait for the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gptkit import registry
from gptkit.errors import DataError
from gptkit.schema import part_options
from gptkit.text.corpora import Corpus
from gptkit.text.tokenizers import build_tokenizer, load_tokenizer
from gptkit.text.tokenizers.base import Tokenizer

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_FORMAT = 2
_BLOCK = 1 << 20  # characters encoded at once
_BORDER = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=[^\s/])")

T = TypeVar("T")


@dataclass(frozen=True)
class Dataset:
    """A corpus, encoded.

    Attributes:
        tokenizer: what the numbers mean.
        train, val: token numbers, [N] each; `val` may be empty.
        val_bytes: UTF-8 bytes of the text that the targets of `val`, all tokens but its first, spell.
        fingerprint: a digest of the text, the tokenizer and the split.
    """

    tokenizer: Tokenizer
    train: np.ndarray
    val: np.ndarray
    val_bytes: int
    fingerprint: str


def prepare(config: Mapping[str, Any], kept: Path | None = None) -> Dataset:
    """The tokenizer and the token arrays that a config asks for.

    The last `data.val_fraction` of the characters is kept for validation, whichever document it falls
    into; the two splits share no token. Documents are followed by the tokenizer's end of text, or by
    a line feed where it has none.

    Args:
        config: whole.
        kept: a folder in which the tokenizer was saved, such as a run's that goes on; a tokenizer that
            came from a file is read from there.

    Raises:
        DataError: the corpus is empty, or shorter than the model's context.
    """
    corpus: Corpus = registry.load("data", config["data"]["name"])(**part_options("data", config["data"]))
    content = corpus.fingerprint()
    tokenizer = _saved(config["tokenizer"], kept) or _tokenizer(config["tokenizer"], corpus, content)
    fraction = config["data"].get("val_fraction", 0.1)
    told = [_FORMAT, content, tokenizer.fingerprint(), fraction]
    key = _sum([*told, _source(tokenizer), _source(corpus)])
    arrays = _cached("tokens", key, _read, lambda folder: _write(folder, corpus, tokenizer, fraction))
    dataset = Dataset(tokenizer, arrays["train"], arrays["val"], int(arrays["val_bytes"][0]), _sum(told))
    _check(dataset, config.get("model", {}).get("context_length", 1), config["data"]["name"])
    return dataset


def _saved(node: Mapping[str, Any], folder: Path | None) -> Tokenizer | None:
    """A tokenizer as it was saved; None if there is none, or if it is made from the corpus."""
    if folder is None or not folder.is_dir() or registry.load("tokenizer", node["name"]).needs_corpus:
        return None
    found = _read_tokenizer(folder)
    return found if found is not None and found.name == node["name"] else None


def _tokenizer(node: Mapping[str, Any], corpus: Corpus, content: str) -> Tokenizer:
    """The tokenizer of a config; one that is made from the corpus is made once and kept."""
    bare: Tokenizer = registry.load("tokenizer", node["name"])(**part_options("tokenizer", node))
    if not bare.needs_corpus:
        return bare
    key = _sum(
        [_FORMAT, content, bare.fingerprint(), _source(bare), sys.version_info[:2], _trainer_version()]
    )
    return _cached(
        "tokenizers", key, _read_tokenizer, lambda folder: build_tokenizer(node, corpus).save(folder)
    )


def _read_tokenizer(folder: Path) -> Tokenizer | None:
    try:
        return load_tokenizer(folder)
    except DataError:
        return None


def _trainer_version() -> str:
    """What may find other merges in the same text."""
    try:
        return importlib.metadata.version("tokenizers")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _source(part: object) -> str:
    """A digest of the file that a part is written in: one that is edited does not meet its old arrays."""
    try:
        return hashlib.sha256(Path(inspect.getsourcefile(type(part)) or "").read_bytes()).hexdigest()
    except (OSError, TypeError):  # written in a notebook
        return ""


def _sum(told: list[Any]) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _check(dataset: Dataset, context_length: int, name: str) -> None:
    have = len(dataset.train)
    if have == 0:
        raise DataError(f"data={name}: the corpus is empty, so there is nothing to learn.")
    if have <= context_length:
        raise DataError(
            f"data={name}: the training text is {have} tokens long, shorter than one example of "
            f"model.context_length={context_length} and its next token. Give a longer text, or take "
            f"model.context_length={max(1, have - 1)} or less."
        )


def _write(folder: Path, corpus: Corpus, tokenizer: Tokenizer, fraction: float) -> None:
    """Encode both splits into a folder."""
    apart = corpus.validation()
    if apart is None:
        total = sum(len(document) for document in corpus.documents()) if fraction else 0
        cut = total - int(total * fraction) if fraction else None
        train, val = _before(corpus.documents(), cut), _after(corpus.documents(), cut)
    else:
        train, val = corpus.documents(), apart
    _encode(train, tokenizer, folder / "train.bin")
    n_bytes = _encode(val, tokenizer, folder / "val.bin")
    first = np.fromfile(folder / "val.bin", dtype=np.uint32, count=1)
    unscored = len(tokenizer.token_bytes(int(first[0]))) if len(first) else 0
    np.asarray([n_bytes - unscored], dtype=np.int64).tofile(folder / "val_bytes.bin")
    _seal(folder)


def _before(documents: Iterable[str], cut: int | None) -> Iterator[str]:
    """The documents up to character `cut` of them all."""
    seen = 0
    for document in documents:
        if cut is not None and seen + len(document) > cut:
            yield document[: cut - seen]
            return
        yield document
        seen += len(document)


def _after(documents: Iterable[str], cut: int | None) -> Iterator[str]:
    """The documents from character `cut` of them all on."""
    seen = 0
    for document in documents if cut is not None else ():
        if cut is not None and seen + len(document) > cut:
            yield document[max(0, cut - seen) :]
        seen += len(document)


def _encode(documents: Iterable[str], tokenizer: Tokenizer, path: Path) -> int:
    """Write the token numbers of documents as 32-bit numbers; returns the bytes of text they spell."""
    between, between_bytes = _separator(tokenizer)
    n_bytes, progress = 0, _Progress(path.stem)
    with path.open("wb") as file:
        for document in documents:
            if not document:
                continue
            for block in _blocks(document):
                tokenizer.encode_array(block).astype(np.uint32).tofile(file)
                size = len(block.encode("utf-8", "surrogatepass"))
                n_bytes += size
                progress.add(size)
            between.tofile(file)
            n_bytes += between_bytes
    progress.close()
    return n_bytes


def _separator(tokenizer: Tokenizer) -> tuple[np.ndarray, int]:
    """What follows a document, and the bytes it counts for: one, whichever tokenizer marks the end."""
    if tokenizer.end_of_text is not None:
        return np.asarray([tokenizer.end_of_text], dtype=np.uint32), 1
    try:
        return tokenizer.encode_array("\n").astype(np.uint32), 1
    except DataError:  # the corpus holds no line feed
        return np.empty(0, dtype=np.uint32), 0


def _blocks(document: str) -> Iterator[str]:
    """A long document in pieces that are encoded each by itself, with the tokens of the whole.

    It is cut before a lone space between two words, or after a lone line feed: no way of cutting text
    into words joins those. Only where a whole block has neither is it cut anywhere.
    """
    start = 0
    while len(document) - start > _BLOCK:
        end = start + _BLOCK
        for reach in (1 << 10, _BLOCK):
            near = max(start + 1, end - reach)
            cuts = [found.start() for found in _BORDER.finditer(document, near, end + 1)]
            if cuts:
                end = cuts[-1]
                break
        yield document[start:end]
        start = end
    yield document[start:]


class _Progress:
    """A line of progress on a terminal, once the work takes longer than a second."""

    def __init__(self, name: str) -> None:
        self.name, self.start, self.done, self.shown = name, time.monotonic(), 0, 0.0
        self.bar: Any = None

    def add(self, size: int) -> None:
        self.done += size
        now = time.monotonic()
        if now - max(self.start + 0.5, self.shown) < 0.5:
            return
        self.shown = now
        if self.bar is None:
            from rich.console import Console

            self.bar = Console(stderr=True).status("")
            self.bar.start()
        self.bar.update(f"encoding the {self.name} split: {self.done / 1e6:,.0f} MB")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def _cached(kind: str, key: str, read: Callable[[Path], T | None], write: Callable[[Path], None]) -> T:
    """What is kept under a key: read if it is whole, else written by the first who asks."""
    root = Path(os.environ.get("GPTKIT_CACHE") or Path.home() / ".cache" / "gptkit") / kind
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root / f"{key}.lock"):
            found = read(root / key)
            if found is not None:
                return found
            for left in root.glob(f".{key[:12]}-*"):  # by one that was killed: the lock is ours now
                shutil.rmtree(left, ignore_errors=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{key[:12]}-", dir=root))
            try:
                write(draft)
                shutil.rmtree(root / key, ignore_errors=True)
                draft.rename(root / key)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            found = read(root / key)
    except OSError as error:
        raise DataError(
            f"The token cache {root} cannot be used: {error.strerror or error}. "
            "Set GPTKIT_CACHE to a folder that can be written to."
        ) from None
    assert found is not None
    return found


_TYPES = {"train": np.uint32, "val": np.uint32, "val_bytes": np.int64}


def _seal(folder: Path) -> None:
    """Note each file's size and digest, last."""
    sums = {
        name: [(folder / f"{name}.bin").stat().st_size, _digest(folder / f"{name}.bin")] for name in _TYPES
    }
    (folder / "sums.json").write_text(json.dumps(sums), "utf-8")


def _read(folder: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a folder, mapped into memory; None if they are not there or not whole."""
    try:
        sums = json.loads((folder / "sums.json").read_text("utf-8"))
        arrays = {}
        for name, kind in _TYPES.items():
            path = folder / f"{name}.bin"
            if [path.stat().st_size, _digest(path)] != sums[name]:
                return None
            empty = path.stat().st_size == 0
            mapped = np.empty(0, kind) if empty else np.memmap(path, dtype=kind, mode="r")
            arrays[name] = mapped.view(np.ndarray)  # the plain class: indexing it is several times faster
        return arrays
    except (OSError, ValueError, KeyError):
        return None


def _digest(path: Path, limit: int = 1 << 26) -> str:
    """A digest of a file; of its first and last half of `limit` bytes where it is larger."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(limit // 2))
        size = path.stat().st_size
        file.seek(max(limit // 2, size - limit // 2))
        digest.update(file.read(limit // 2))
    return digest.hexdigest()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait for the others who make the same arrays; the system frees the lock of one that dies."""
    with path.open("a") as file:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
