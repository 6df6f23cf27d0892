"""What a tokenizer promises: every text comes back, and no text is taken for a command."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gptkit.errors import DataError
from gptkit.signature import REQUIRED
from gptkit.testing.checks import law
from gptkit.testing.subject import Subject, named_errors_refuse
from gptkit.text.examples import Examples

CORPUS = [
    "To be, or not to be: that is the question.\n",
    "Ce soir, je vais chercher les enfants à l'école.\n",
] * 3
TEXTS = [
    "", " ", "To be", "to  be\n\n\tor not", "l'école", "日本語", "🎈👩\u200d👩\u200d👧", "e\u0301", "\x00\x7f", "﷽" * 3,
    "To be\r\nor not\r\rto be\n\r\n", "\ufeffTo be", "To\ufeffbe", "To\x00be\x00", "\u0301", "\u0308 \u0301a\u0323",
    "".join(map(chr, [*range(1, 300), 0x3B1, 0x5D0, 0x905, 0x1F600, 0x10FFFD, 0xFFFD])),
]  # fmt: skip


@cache
def unicode() -> list[str]:
    """Every character that Unicode assigns, and some of the places that it leaves empty or private, in a few texts."""
    points = [
        chr(point)
        for point in range(0x110000)
        if (kind := unicodedata.category(chr(point))) != "Cs"
        and (kind not in {"Cn", "Co"} or point % 61 == 0 or point % 0x10000 >= 0xFFFE)
    ]
    lines = ["".join(points[i : i + 32]) for i in range(0, len(points), 32)]
    return [" ".join(lines[i : i + 1000]) for i in range(0, len(lines), 1000)]


def made(subject: Subject, corpus: Sequence[str] = CORPUS) -> Any:
    """The tokenizer, fitted where it needs a text."""
    with named_errors_refuse():
        tokenizer = subject.component.load()(**subject.options)
        if tokenizer.needs_corpus:
            tokenizer.fit(corpus)
        tokenizer.encode(corpus[0])  # a published table may not be on this machine
    return tokenizer


@law("tokenizer")
def round_trips(subject: Subject) -> None:
    """Decoding gives back every text that it can spell, of all Unicode but what it says it `forgets`; what it cannot
    it refuses by DataError."""
    tokenizer = made(subject)
    kept = str.maketrans("", "", tokenizer.forgets)
    _round_trips(tokenizer, [*CORPUS, *TEXTS, *(text.translate(kept) for text in unicode())], CORPUS)
    for character in tokenizer.forgets:
        assert tokenizer.decode(tokenizer.encode(character)) != character, f"{character!r} is not forgotten."
    if tokenizer.needs_corpus:
        _round_trips(made(subject, [*CORPUS, *TEXTS]), TEXTS, TEXTS)


def _round_trips(tokenizer: Any, texts: Sequence[str], corpus: Sequence[str]) -> None:
    for text in texts:
        try:
            numbers = tokenizer.encode(text)
        except DataError:
            assert text not in corpus, f"It cannot spell the text that it was made from: {text!r}."
            continue
        assert all(0 <= n < tokenizer.vocab_size for n in numbers), (
            f"{_short(text)} has tokens beyond vocab_size."
        )
        back = tokenizer.decode(numbers)
        assert back == text, "{} came back as {}.".format(*map(_short, _apart(text, back)))
        spelled = b"".join(tokenizer.token_bytes(n) for n in numbers)
        assert spelled == text.encode(), f"The bytes of the tokens of {_short(text)} are not its own."


def _apart(one: str, other: str) -> tuple[str, str]:
    """Two texts from shortly before where they part."""
    if len(one) < 100:
        return one, other
    unlike = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    at = max(0, next(unlike, min(len(one), len(other))) - 4)
    return one[at:], other[at:]


def _short(text: str) -> str:
    return repr(text) if len(text) < 100 else f"{ascii(text[:12])[:-1]}…'"


@law("tokenizer")
def special_text_is_plain(subject: Subject) -> None:
    """`<|endoftext|>` in a text is text; only `special=True` reads it as the end of a document."""
    tokenizer = made(subject)
    text = "To be<|endoftext|>"
    try:
        plain = tokenizer.encode(text)
    except DataError:
        return  # it cannot spell it, so it cannot take it for more
    assert tokenizer.end_of_text not in plain, "The text ended a document."
    assert tokenizer.decode(plain) == text, f"It came back as {tokenizer.decode(plain)!r}."
    if tokenizer.end_of_text is not None:
        assert tokenizer.encode(text, special=True)[-1] == tokenizer.end_of_text, (
            "special=True was not heard."
        )
        assert tokenizer.end_of_text < tokenizer.vocab_size, "end_of_text lies beyond vocab_size."


@law("tokenizer")
def keeps_its_vocabulary(subject: Subject) -> None:
    """Saved and loaded it has the same fingerprint and encodes alike; made again from the same text, too."""
    from gptkit.text.tokenizers import load_tokenizer

    tokenizer = made(subject)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        loaded = load_tokenizer(Path(folder))
    again = made(subject)
    for other in (loaded, again):
        assert other.fingerprint() == tokenizer.fingerprint(), "The fingerprint differs."
        assert other.vocab_size == tokenizer.vocab_size, "The vocabulary has another size."
        assert [other.encode(t) for t in CORPUS] == [tokenizer.encode(t) for t in CORPUS], (
            "It encodes otherwise."
        )


@law("tokenizer")
def batches_alike(subject: Subject) -> None:
    """A batch of texts, and a text as an array, give the tokens of each text alone."""
    tokenizer = made(subject)
    alone = [tokenizer.encode(text) for text in CORPUS]
    assert tokenizer.encode_batch(CORPUS) == alone, "encode_batch differs."
    assert [tokenizer.encode_array(text).tolist() for text in CORPUS] == alone, "encode_array differs."


@law("data", once=True)
def is_the_same_each_time(subject: Subject) -> None:
    """Two of it give the same text and the same digest; of examples, none that is asked about is trained on."""
    if any(option.default is REQUIRED for option in subject.component.declaration.options):
        return  # it reads what only its user has
    one, other = subject.part(), subject.part()
    assert one.fingerprint() == other.fingerprint(), "Two of it have different digests."
    for first, second in zip(one.all_documents(), other.all_documents(), strict=True):
        assert first == second, f"Two of it give different documents: {first[:40]!r} and {second[:40]!r}."
    if not isinstance(one, Examples):
        return
    mine, theirs = one.splits(0.1), other.splits(0.1)
    assert {"train", "val"} <= mine.keys() == theirs.keys(), "It lacks train or val, or its splits change."
    trained = {example.prompt for example in mine["train"].examples}
    assert trained, "It has nothing to train on."
    for name, asked in mine.items():
        examples = list(asked.examples)
        assert examples == list(theirs[name].examples), f"Two of it give different examples of {name}."
        assert all(prompt and answer for prompt, answer in examples), (
            f"{name}: one lacks a prompt or an answer."
        )
        known = trained & {example.prompt for example in examples} if name != "train" else set()
        assert not known, f"{name} asks what is trained on, such as {sorted(known)[0]!r}."
