"""A tokenizer as llama.cpp reads it: byte pairs that are cut as GPT-2 cuts them."""

from __future__ import annotations

import logging
from typing import Any

from gptkit.errors import DataError, UserError
from gptkit.text.tokenizers.base import Tokenizer
from gptkit.text.tokenizers.ranks import GPT2_PATTERN
from gptkit.text.tokenizers.tokenizer_json import merges_of, shown

_NORMAL, _CONTROL, _UNUSED = 1, 3, 5
_NONE: dict[str, Any] = {"model": "none"}
_log = logging.getLogger("gptkit")


def vocabulary_keys(tokenizer: Tokenizer | None, rows: int) -> dict[str, Any]:
    """The keys of `tokenizer.ggml`; where llama.cpp cannot hold the tokenizer, say so and name none.

    Args:
        tokenizer: of the model that is written, or None.
        rows: of the model's vocabulary; those that no token has are told as unused.
    """
    if tokenizer is None:
        return _NONE
    try:
        return _byte_pairs(tokenizer, rows)
    except (UserError, DataError) as error:
        _log.warning("The file has no vocabulary, so its model reads and writes token numbers: %s", error)
        return _NONE


def _byte_pairs(tokenizer: Tokenizer, rows: int) -> dict[str, Any]:
    """Tokens, their types and merges.

    Raises:
        UserError: the tokenizer is of another kind.
        DataError: its table cannot be had.
    """
    table = getattr(tokenizer, "table", None)
    if table is None:
        raise UserError(f"tokenizer={tokenizer.name} is no table of byte pairs.")
    if tokenizer.vocab_size > rows:
        raise UserError(
            f"tokenizer={tokenizer.name} has {tokenizer.vocab_size} tokens, but the model {rows} rows."
        )
    pattern, ranks, special = table()
    if pattern != GPT2_PATTERN:
        raise UserError(f"tokenizer={tokenizer.name} cuts text as nothing in llama.cpp does exactly.")
    merges = list(merges_of(ranks))
    made = {left + right for left, right in merges}
    lost = [token for token in ranks if len(token) > 1 and token not in made]
    if lost:
        raise UserError(
            f"tokenizer={tokenizer.name}: {lost[0]!r} and {len(lost) - 1} more follow from no merge."
        )
    tokens, types = [f"[PAD{number}]" for number in range(rows)], [_UNUSED] * rows
    for token, rank in ranks.items():
        tokens[rank], types[rank] = shown(token), _NORMAL
    for text, number in special.items():
        tokens[number], types[number] = text, _CONTROL
    told: dict[str, Any] = {
        "model": "gpt2", "pre": "gpt-2", "tokens": tokens, "token_type": types,
        "merges": [f"{shown(left)} {shown(right)}" for left, right in merges],
        "add_bos_token": tokenizer.begin_of_text is not None, "add_eos_token": False,
    }  # fmt: skip
    begin = tokenizer.end_of_text if tokenizer.begin_of_text is None else tokenizer.begin_of_text
    for key, token in (("bos_token_id", begin), ("eos_token_id", tokenizer.end_of_text)):
        if token is not None:
            told[key] = token
    return told
