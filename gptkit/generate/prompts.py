"""From what was asked to the tokens that a model reads first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gptkit.errors import DataError, UserError
from gptkit.text.tokenizers.base import Tokenizer

Prompt = str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]]


def prompt_rows(tokenizer: Tokenizer, prompt: Prompt, vocab_size: int) -> list[list[int]]:
    """The tokens of each prompt, at least one in each.

    Args:
        tokenizer: reads texts; end-of-text signs in them are plain text.
        prompt: a text, tokens, or a list of either.
        vocab_size: tokens that the model knows.

    Raises:
        UserError: a prompt is neither text nor tokens of the model.
        DataError: the tokenizer cannot spell a prompt.
    """
    given: Any = prompt
    given = given.tolist() if hasattr(given, "tolist") else given  # an array or a tensor
    several = isinstance(given, list | tuple) and bool(given) and not isinstance(given[0], int)
    return [_row(tokenizer, one, vocab_size) for one in (given if several else [given])]


def _row(tokenizer: Tokenizer, prompt: Any, vocab_size: int) -> list[int]:
    if isinstance(prompt, str):
        tokens = tokenizer.encode(prompt)
        if tokenizer.begin_of_text is not None:
            tokens = [tokenizer.begin_of_text, *tokens]
    elif isinstance(prompt, Sequence) and all(type(token) is int for token in prompt):
        tokens = list(prompt)
    else:
        raise UserError(f"prompt: expected a text or token numbers, got {prompt!r}.")
    wrong = next((token for token in tokens if not 0 <= token < vocab_size), None)
    if wrong is not None:
        raise UserError(f"prompt: token {wrong} is not one of the model's, which are 0 to {vocab_size - 1}.")
    return tokens or [start_token(tokenizer)]


def start_token(tokenizer: Tokenizer) -> int:
    """What a text begins after: the end of the text before it, or a new line.

    Raises:
        UserError: the tokenizer has neither.
    """
    if tokenizer.end_of_text is not None:
        return tokenizer.end_of_text
    try:
        return tokenizer.encode("\n")[-1]
    except (DataError, IndexError):
        raise UserError(
            "prompt: the tokenizer has neither an end of text nor a new line to start from. Give a prompt."
        ) from None
