"""A SentencePiece model as a `tokenizer.json`, where one gives the same numbers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from gptkit.errors import GptkitError

_SPACE = "▁"
_PROBES = [
    "", " ", "  ", "a", " To  be\n\n\tor not ", "l'été où 東京 Ω ﬁ ｂｅ 🙂 👩\u200d👧",
    "e\u0301 \u00a0\u3000x\r\n\x00\x7f",
    "<unk><s> </s>", "".join(map(chr, range(1, 0x600))), "a" * 50, "1234567890 12 3.14",
]  # fmt: skip


def as_tokenizer_json(library: Any, leads: bool, first: str | None) -> bytes | None:
    """The file's bytes; None where neither BPE nor Unigram gives the numbers of `library` for texts to try.

    Args:
        library: a SentencePieceProcessor.
        leads: it puts a space before a text.
        first: the special token that a text begins with, or nothing.
    """
    from gptkit_tokenizer_files.hugging_face import HuggingFaceTokenizer

    pieces = [library.id_to_piece(token) for token in range(library.vocab_size())]
    known = "".join(pieces).replace(_SPACE, " ")
    probes = [*_PROBES, known, *(known[at : at + 37] for at in range(0, min(len(known), 40_000), 37))]
    for model in (_byte_pairs, _unigram):
        data = json.dumps(_file(library, pieces, model(library, pieces), leads, first)).encode()
        with contextlib.suppress(GptkitError):
            made = HuggingFaceTokenizer(path="")
            made.set_state({made.kept: data})
            if all(made.encode(text) == library.encode(text) for text in probes):
                return data
    return None


def _file(library: Any, pieces: list[str], model: dict[str, Any], leads: bool, first: str | None) -> dict:
    """Spaces as `▁`, one before the text; then the model (the files of Llama 2 are such)."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    marks = [n for n in range(len(pieces)) if library.is_control(n) or library.is_unknown(n)]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    words = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if leads else []
    prefix = [{"type": "Prepend", "prepend": _SPACE}] if leads else []
    return {
        "version": "1.0",
        "added_tokens": [{"id": n, "content": pieces[n], **flags} for n in marks],
        "normalizer": {"type": "Sequence", "normalizers": [*prefix, spaces]},
        "pre_tokenizer": None,
        "post_processor": _begins_with(first, pieces.index(first)) if first else None,
        "decoder": {
            "type": "Sequence",
            "decoders": [words, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip],
        },
        "model": model,
    }


def _begins_with(text: str, token: int) -> dict[str, Any]:
    mark: dict[str, Any] = {"SpecialToken": {"id": text, "type_id": 0}}
    one = [mark, {"Sequence": {"id": "A", "type_id": 0}}]
    two = [*one, {"Sequence": {"id": "B", "type_id": 0}}]
    special = {text: {"id": text, "ids": [token], "tokens": [text]}}
    return {"type": "TemplateProcessing", "single": one, "pair": two, "special_tokens": special}


def _byte_pairs(library: Any, pieces: list[str]) -> dict[str, Any]:
    unknown = library.unk_id()
    return {
        "type": "BPE",
        "unk_token": pieces[unknown] if unknown >= 0 else None,
        "fuse_unk": True,
        "byte_fallback": any(library.is_byte(n) for n in range(len(pieces))),
        "vocab": {piece: n for n, piece in enumerate(pieces)},
        "merges": [list(pair) for pair in _merges(library, pieces)],
    }


def _merges(library: Any, pieces: list[str]) -> Iterator[tuple[str, str]]:
    """Every two pieces that make a third, the best third first."""
    known = set(pieces)
    for token in sorted(range(len(pieces)), key=lambda n: (-library.get_score(n), n)):
        if library.is_control(token) or library.is_unknown(token) or library.is_byte(token):
            continue
        whole = pieces[token]
        for at in range(1, len(whole)):
            if whole[:at] in known and whole[at:] in known:
                yield whole[:at], whole[at:]


def _unigram(library: Any, pieces: list[str]) -> dict[str, Any]:
    return {
        "type": "Unigram",
        "unk_id": library.unk_id(),
        "byte_fallback": any(library.is_byte(n) for n in range(len(pieces))),
        "vocab": [[piece, library.get_score(n)] for n, piece in enumerate(pieces)],
    }
