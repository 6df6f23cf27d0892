"""Tokenizers and naive loops that the tests of generation share."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence

import torch

from gptkit.generate.samplers import Sampler
from gptkit.model.gpt import GPT
from gptkit.text.tokenizers.base import Tokenizer

SIGNS = [
    "a",
    "b",
    "ab",
    "ba",
    " ",
    "\n",
    "é",
    "ca",
    "c",
    "bab",
    "d",
    "e",
    "f",
    "g",
    "h",
    "i",
    "j",
    "k",
    "l",
    "m",
]


class Signs(Tokenizer):
    """A token for each of some byte strings; the first that fits is taken."""

    name = "signs"

    def __init__(self, table: Sequence[bytes | str] = SIGNS, end_of_text: int | None = None) -> None:
        self.table = [entry.encode() if isinstance(entry, str) else entry for entry in table]
        self.vocab_size, self.end_of_text = len(self.table), end_of_text

    def encode(self, text: str, special: bool = False) -> list[int]:
        tokens, data = [], text.encode()
        while data:
            token = next(i for i, entry in enumerate(self.table) if entry and data.startswith(entry))
            tokens.append(token)
            data = data[len(self.table[token]) :]
        return tokens

    def token_bytes(self, token: int) -> bytes:
        return self.table[token]


def uniform(seed: int, sample: int) -> Callable[[], float]:
    """The numbers that decide one sample, one for each token."""
    digest = hashlib.blake2b(f"{seed}/{sample}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "little")).random


@torch.no_grad()
def naive(
    scores_of: Callable[[list[int]], torch.Tensor],
    prompt: Sequence[int],
    count: int,
    sampler: Sampler,
    seed: int = 0,
    sample: int = 0,
) -> list[int]:
    """`count` tokens after a prompt, by the loop as anyone would write it.

    Args:
        scores_of: the scores [V] after a text.
        prompt, count, seed, sample: what to draw.
        sampler: gives the distribution; the token is found by adding it up.
    """
    tokens, draw = list(prompt), uniform(seed, sample)
    for _ in range(count):
        p = sampler.probabilities(scores_of(tokens).unsqueeze(0), [tokens])[0].tolist()
        goal, mass, chosen = draw(), 0.0, None
        for token, share in enumerate(p):
            mass += share
            if mass > goal and chosen is None:
                chosen = token
        assert chosen is not None
        tokens.append(chosen)
    return tokens[len(prompt) :]


def cropped(model: GPT, length: int) -> Callable[[list[int]], torch.Tensor]:
    """Scores after the last `length` tokens of a text, read as a text of their own."""
    return lambda tokens: model(torch.tensor([tokens[-length:]]))[0, -1]


def whole(model: GPT) -> Callable[[list[int]], torch.Tensor]:
    """Scores after all of a text."""
    return lambda tokens: model(torch.tensor([tokens]))[0, -1]
