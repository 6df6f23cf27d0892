"""Byte pairs by rank as a `tokenizer.json`, which the `tokenizers` library reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

from gptkit.text.tokenizers.ranks import byte_letters

_NEVER = 1 << 60
_LETTERS = {byte: letter for letter, byte in byte_letters().items()}


def byte_pairs(pattern: str, ranks: dict[bytes, int], special: dict[str, int]) -> bytes:
    """A `tokenizer.json` that gives tiktoken's numbers for every text.

    Runs of more than 10,000 like characters, which gptkit cuts before tiktoken reads them, are not cut.

    Args:
        pattern: how text is cut into words, as tiktoken writes it.
        ranks: the rank of each byte string, which is its number.
        special: the special tokens' numbers.
    """
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    cut = {
        "type": "Split",
        "pattern": {"Regex": _oniguruma(pattern)},
        "behavior": "Isolated",
        "invert": False,
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    vocabulary = {shown(token): rank for token, rank in ranks.items()} | special
    told = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": text, **flags} for text, number in special.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, level]},
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,  # a whole word that has a rank is one token, as with tiktoken
            "vocab": dict(sorted(vocabulary.items(), key=lambda entry: entry[1])),
            "merges": [[shown(left), shown(right)] for left, right in merges_of(ranks)],
        },
    }
    return json.dumps(told, ensure_ascii=False).encode("utf-8")


def _oniguruma(pattern: str) -> str:
    """tiktoken's pattern for the other library's engine, where `{1,3}+` repeats what `{1,3}` matched.

    Nothing stands after it that would need a digit back, so it need not be possessive.
    """
    return pattern.replace("{1,3}+", "{1,3}")


def shown(token: bytes) -> str:
    """A token in GPT-2's printable stand-ins for its bytes."""
    return "".join(_LETTERS[byte] for byte in token)


def merges_of(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The two parts that each token was merged from: those that the lower ranks make of its bytes."""
    for token, rank in sorted(ranks.items(), key=lambda entry: entry[1]):
        parts = [token[at : at + 1] for at in range(len(token))]
        while len(parts) > 2:
            found = [ranks.get(left + right, _NEVER) for left, right in pairwise(parts)]
            at = found.index(min(found))
            if found[at] >= rank:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            yield parts[0], parts[1]
