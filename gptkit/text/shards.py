"""A corpus as arrays of token numbers, made once and kept.

The arrays lie in a cache folder under a name that follows from the text, the tokenizer and the split,
so that a changed text or tokenizer never meets an old array. They are written aside and renamed;
processes that need the same ones wait for the first.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gptkit import registry
from gptkit.errors import DataError
from gptkit.schema import part_options
from gptkit.text.corpora import Corpus
from gptkit.text.encoding import encode_text, held_out, only, without
from gptkit.text.examples import Examples, encode_examples
from gptkit.text.kept import digest, kept
from gptkit.text.splits import Split
from gptkit.text.tokenizers import load_tokenizer
from gptkit.text.tokenizers.base import Tokenizer

_FORMAT = 2  # of what a text's fingerprint is made from
_LAYOUT = 3  # of the folder of arrays
_SPLITS = "splits.json"


@dataclass(frozen=True)
class Dataset:
    """A corpus, encoded.

    Attributes:
        tokenizer: what the numbers mean.
        splits: `train` and `val`, which may be empty, and those that a corpus of examples has beside them.
        fingerprint: a digest of the text, the tokenizer and the split.
    """

    tokenizer: Tokenizer
    splits: Mapping[str, Split]
    fingerprint: str

    @property
    def train(self) -> np.ndarray:
        """The token numbers that are trained on, [N]."""
        return self.splits["train"].tokens

    @property
    def val_split(self) -> Split:
        """What is validated on."""
        return self.splits["val"]

    @property
    def val(self) -> np.ndarray:
        """The token numbers that are validated on, [N]."""
        return self.splits["val"].tokens

    @property
    def val_bytes(self) -> int:
        """UTF-8 bytes of the text that the targets of `val` spell: in running text all but its first token."""
        return self.splits["val"].n_bytes


def prepare(config: Mapping[str, Any], saved: Path | None = None) -> Dataset:
    """The tokenizer and the token arrays that a config asks for.

    A part of running text, `data.val_fraction` of its characters, is kept for validation, whichever
    document it falls into: the last one, or as `data.val_fold` says; the two splits share no token.
    Documents are followed by the tokenizer's end of text, or by a line feed where it has none.

    Args:
        config: whole.
        saved: a folder in which the tokenizer was saved, such as a run's that goes on; a tokenizer that
            came from a file is read from there.

    Raises:
        DataError: the corpus is empty, shorter than the model's context, or has an example that is longer.
    """
    corpus: Corpus = registry.load("data", config["data"]["name"])(**part_options("data", config["data"]))
    content = corpus.fingerprint()
    fraction, fold = config["data"].get("val_fraction", 0.1), config["data"].get("val_fold", 0)
    tokenizer = _saved(config["tokenizer"], saved) or _tokenizer(
        config["tokenizer"], corpus, content, fraction
    )
    told = [_FORMAT, content, tokenizer.fingerprint(), fraction, *([fold] if fold else [])]
    key = _sum([_LAYOUT, *told, _source(tokenizer), _source(corpus)])
    splits = kept("tokens", key, _read, lambda folder: _write(folder, corpus, tokenizer, fraction, fold))
    dataset = Dataset(tokenizer, splits, _sum(told))
    _check(dataset, config.get("model", {}).get("context_length", 1), config["data"]["name"])
    return dataset


def _saved(node: Mapping[str, Any], folder: Path | None) -> Tokenizer | None:
    """A tokenizer as it was saved; None if there is none, or if it is made from the corpus."""
    if folder is None or not folder.is_dir() or registry.load("tokenizer", node["name"]).needs_corpus:
        return None
    found = _read_tokenizer(folder)
    return found if found is not None and found.name == node["name"] else None


def _tokenizer(node: Mapping[str, Any], corpus: Corpus, content: str, fraction: float) -> Tokenizer:
    """The tokenizer of a config; one that is made from the corpus is made once and kept."""
    bare: Tokenizer = registry.load("tokenizer", node["name"])(**part_options("tokenizer", node))
    if not bare.needs_corpus:
        return bare
    told = [_FORMAT, content, bare.fingerprint(), _source(bare), sys.version_info[:2], _trainer_version()]
    key = _sum([*told, fraction, _source(corpus)] if isinstance(corpus, Examples) else told)

    def make(folder: Path) -> None:
        bare.fit(corpus.all_documents(fraction))
        bare.save(folder)

    return kept("tokenizers", key, _read_tokenizer, make)


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
    split = dataset.splits["train"]
    have = len(split.tokens)
    if have == 0:
        raise DataError(f"data={name}: the corpus is empty, so there is nothing to learn.")
    if split.width is not None:
        longest = max(s.reach(0) for s in dataset.splits.values() if s and s.trained)
        if longest > context_length:
            raise DataError(
                f"data={name}: its longest example is {longest} tokens long without its last one, more than "
                f"model.context_length={context_length}. Take model.context_length={longest} or more, or "
                "shorter examples."
            )
    elif have <= context_length:
        raise DataError(
            f"data={name}: the training text is {have} tokens long, shorter than one example of "
            f"model.context_length={context_length} and its next token. Give a longer text, or take "
            f"model.context_length={max(1, have - 1)} or less."
        )


def _write(folder: Path, corpus: Corpus, tokenizer: Tokenizer, fraction: float, fold: int) -> None:
    """Encode all splits into a folder."""
    if isinstance(corpus, Examples):
        splits = _write_examples(folder, corpus, tokenizer, fraction)
    else:
        splits = _write_text(folder, corpus, tokenizer, fraction, fold)
    _seal(folder, splits)


def _write_text(
    folder: Path, corpus: Corpus, tokenizer: Tokenizer, fraction: float, fold: int
) -> dict[str, Any]:
    train, val = corpus.documents(), corpus.validation()
    if val is None:
        total = sum(map(len, corpus.documents())) if fraction else 0
        kept = held_out(total, fraction, fold)
        train, val = without(train, kept), only(corpus.documents(), kept)
    splits = {}
    for name, documents in {"train": train, "val": val}.items():
        n_bytes = encode_text(documents, tokenizer, folder / f"{name}.bin")
        first = np.fromfile(folder / f"{name}.bin", dtype=np.uint32, count=1)
        unscored = len(tokenizer.token_bytes(int(first[0]))) if len(first) else 0
        splits[name] = {"n_bytes": n_bytes - unscored}
    return splits


def _write_examples(folder: Path, corpus: Examples, tokenizer: Tokenizer, fraction: float) -> dict[str, Any]:
    splits = {}
    for name, asked in corpus.splits(fraction).items():
        if not name.isidentifier():
            raise DataError(f"{type(corpus).__name__}: the split {name!r} is not named by a plain word.")
        files = folder / f"{name}.bin", folder / f"{name}.scored.bin"
        told = encode_examples(asked, tokenizer, *files, name)
        splits[name] = {**told, "length": asked.length, "trained": asked.trained}
    return splits


def _seal(folder: Path, splits: Mapping[str, Mapping[str, Any]]) -> None:
    """Note what the splits are, and each file's size and digest, last."""
    sums = {path.name: [path.stat().st_size, digest(path)] for path in folder.glob("*.bin")}
    (folder / _SPLITS).write_text(json.dumps({"splits": splits, "sums": sums}), "utf-8")


def _read(folder: Path) -> dict[str, Split] | None:
    """The splits of a folder, mapped into memory; None if they are not there or not whole."""
    try:
        told = json.loads((folder / _SPLITS).read_text("utf-8"))
        for name, expected in told["sums"].items():
            if [(folder / name).stat().st_size, digest(folder / name)] != expected:
                return None
        found = {}
        for name, facts in told["splits"].items():
            scored = f"{name}.scored.bin" in told["sums"]
            found[name] = Split(
                _mapped(folder / f"{name}.bin", np.uint32),
                scored=_mapped(folder / f"{name}.scored.bin", np.bool_) if scored else None,
                **facts,
            )
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _mapped(path: Path, kind: type) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.empty(0, kind)
    return np.memmap(path, dtype=kind, mode="r").view(np.ndarray)  # the plain class: several times faster
