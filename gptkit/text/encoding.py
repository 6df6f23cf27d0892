"""Documents as token numbers, in one pass and in bounded memory."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gptkit.errors import DataError
from gptkit.text.tokenizers.base import Tokenizer

_BLOCK = 1 << 20  # characters encoded at once
BORDER = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=[^\s/])")


def held_out(total: int, fraction: float, fold: int) -> range:
    """Which of `total` characters are kept for validation: the last ones, or fold by fold those before."""
    size = int(total * fraction)
    if not size:
        return range(total, total)
    end = total - size * (fold % (total // size))
    return range(end - size, end)


def without(documents: Iterable[str], kept: range) -> Iterator[str]:
    """The documents but for some characters, counted through them all."""
    seen = 0
    for document in documents:
        start, end = (min(max(at - seen, 0), len(document)) for at in (kept.start, kept.stop))
        yield document[:start]
        yield document[end:]
        seen += len(document)


def only(documents: Iterable[str], kept: range) -> Iterator[str]:
    """Of the documents some characters, counted through them all."""
    seen = 0
    for document in documents:
        start, end = (min(max(at - seen, 0), len(document)) for at in (kept.start, kept.stop))
        yield document[start:end]
        seen += len(document)


def encode_text(documents: Iterable[str], tokenizer: Tokenizer, path: Path) -> int:
    """Write the token numbers of documents as 32-bit numbers; returns the bytes of text they spell."""
    between, between_bytes = separator(tokenizer)
    n_bytes, progress = 0, Progress(path.stem)
    with path.open("wb") as file:
        for document in documents:
            if not document:
                continue
            for block in blocks(document):
                tokenizer.encode_array(block).astype(np.uint32).tofile(file)
                size = len(block.encode("utf-8", "surrogatepass"))
                n_bytes += size
                progress.add(size)
            between.tofile(file)
            n_bytes += between_bytes
    progress.close()
    return n_bytes


def separator(tokenizer: Tokenizer) -> tuple[np.ndarray, int]:
    """What follows a document, and the bytes it counts for: one, whichever tokenizer marks the end."""
    if tokenizer.end_of_text is not None:
        return np.asarray([tokenizer.end_of_text], dtype=np.uint32), 1
    try:
        return tokenizer.encode_array("\n").astype(np.uint32), 1
    except DataError:  # the corpus holds no line feed
        return np.empty(0, dtype=np.uint32), 0


def blocks(document: str) -> Iterator[str]:
    """A long document in pieces that are encoded each by itself, with the tokens of the whole.

    It is cut before a lone space between two words, or after a lone line feed: no way of cutting text
    into words joins those. Only where a whole block has neither is it cut anywhere.
    """
    start = 0
    while len(document) - start > _BLOCK:
        end = start + _BLOCK
        for reach in (1 << 10, _BLOCK):
            near = max(start + 1, end - reach)
            cuts = [found.start() for found in BORDER.finditer(document, near, end + 1)]
            if cuts:
                end = cuts[-1]
                break
        yield document[start:end]
        start = end
    yield document[start:]


class Progress:
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
