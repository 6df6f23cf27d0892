"""The explainer's first picture: what may come next, from the most to the least probable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gptkit.errors import GptkitError, UserError
from gptkit.generate.prompts import prompt_rows
from gptkit.generate.reader import Reader, window
from gptkit.model.gpt import GPT
from gptkit.text.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class NextToken:
    """A token that may come next.

    Attributes:
        text: what it spells; the bytes of half a character show as `\\xe2`.
        id: its number.
        probability: the model's own, before any rule of sampling.
    """

    text: str
    id: int
    probability: float


@torch.inference_mode()
def next_tokens(
    model: GPT, tokenizer: Tokenizer, prompt: str | Sequence[int], k: int = 10
) -> list[NextToken]:
    """The k most probable next tokens after a text, the most probable first; of equals, the lowest number.

    Args:
        model: a GPT; it reads in evaluation mode and is left in the mode it was in.
        tokenizer: what its tokens mean.
        prompt: a text or its tokens, of which the last `context_length` are read; see `generate` for an
            empty one.
        k: how many; all of the vocabulary at most.

    Raises:
        UserError: k is no whole number of 1 or more, or the tokenizer cannot spell the prompt.
        GptkitError: the model's scores are not numbers.
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise UserError(f"k: expected a whole number of 1 or more, got {k!r}.")
    rows = prompt_rows(tokenizer, prompt, model.shape.vocab_size)
    if len(rows) != 1:
        raise UserError(f"prompt: expected one, got {len(rows)}.")
    training = model.training
    model.eval()
    try:
        scores = Reader(model, [rows[0][-window(model) :]], 0, use_cache=False).scores()[0]
    finally:
        model.train(training)
    p = scores[: tokenizer.vocab_size].cpu().double().softmax(-1)
    if not bool(p.isfinite().all()):
        raise GptkitError("The model's scores are not numbers; its weights may have diverged in training.")
    ranked = p.sort(descending=True, stable=True)
    pairs = zip(ranked.indices[:k].tolist(), ranked.values[:k].tolist(), strict=True)
    return [NextToken(spelt(tokenizer, token), token, probability) for token, probability in pairs]


def spelt(tokenizer: Tokenizer, token: int) -> str:
    """A token's text; bytes that are no whole character are written out."""
    return tokenizer.token_bytes(token).decode("utf-8", "backslashreplace")
