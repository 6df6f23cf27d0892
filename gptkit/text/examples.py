"""Corpora of questions with answers: each stands in a row of its own, and its answer alone is scored."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptkit.errors import DataError
from gptkit.text.corpora import Corpus
from gptkit.text.encoding import separator
from gptkit.text.tokenizers.base import Tokenizer


class Example(NamedTuple):
    """A question, and the answer that a model is asked for."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Asked:
    """Examples of one split.

    Attributes:
        examples: always the same, in the same order.
        length: how long each is, by the corpus's own measure, if all are as long.
        trained: whether examples of this length are trained on.
    """

    examples: Iterable[Example]
    length: int | None = None
    trained: bool = True


class Examples(Corpus):
    """A corpus of examples instead of running text.

    A row holds a prompt, its answer and an end (the tokenizer's end of text, or a line feed), and is
    filled up to the longest of its split. The prompt is read, never scored; so is what fills. A run
    tells for each split but `train` its loss and, since an answer is right when each of its tokens is
    the likeliest, the share of answers that greedy decoding gives whole.
    """

    @abstractmethod
    def splits(self, held_out: float) -> Mapping[str, Asked]:
        """The splits by name: `train`, `val`, and others that are validated on, such as longer examples.

        Args:
            held_out: the share of all prompts that is kept from `train`.
        """

    def documents(self) -> Iterator[str]:
        """The examples that are trained on, a line each."""
        yield from _lines(self.splits(0.0)["train"])

    def all_documents(self, held_out: float = 0.0) -> Iterator[str]:
        """The examples of every split, a line each: a vocabulary must spell those that are asked about too."""
        for asked in self.splits(held_out).values():
            yield from _lines(asked)


def _lines(asked: Asked) -> Iterator[str]:
    return (f"{prompt}{answer}\n" for prompt, answer in asked.examples)


def encode_examples(
    asked: Asked, tokenizer: Tokenizer, tokens_to: Path, scored_to: Path, name: str
) -> dict[str, Any]:
    """Write examples as rows of 32-bit token numbers, and of whether each is scored.

    Prompt and answer are encoded apart, so that no token reaches over the border.

    Returns:
        `width` and `n_bytes`, as of a `Split`.

    Raises:
        DataError: an example has no prompt or no answer.
    """
    end, end_bytes = separator(tokenizer)
    rows: list[tuple[list[int], int]] = []
    n_bytes = 0
    for prompt, answer in asked.examples:
        asks, says = tokenizer.encode(prompt), [*tokenizer.encode(answer), *end.tolist()]
        if not asks or not says:
            raise DataError(
                f"{name}: an example has no {'answer' if asks else 'prompt'}: {prompt!r}, {answer!r}."
            )
        rows.append((asks + says, len(asks)))
        n_bytes += len(answer.encode("utf-8", "surrogatepass")) + end_bytes
    width = max((len(row) for row, _ in rows), default=0)
    tokens, scored = np.zeros((len(rows), width), np.uint32), np.zeros((len(rows), width), np.bool_)
    for number, (row, asks) in enumerate(rows):
        tokens[number, : len(row)] = row
        scored[number, asks : len(row)] = True
    tokens.tofile(tokens_to)
    scored.tofile(scored_to)
    return {"width": width, "n_bytes": n_bytes}
