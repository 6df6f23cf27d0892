"""Pictures of text: what a tokenizer makes of a sentence, and what a corpus holds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from gptkit.pictures import Figure
from gptkit.pictures.svg import escape, text_figure
from gptkit.registry import Component
from gptkit.text.corpora import Corpus, Shakespeare
from gptkit.text.examples import Asked, Examples, encode_examples
from gptkit.text.tokenizers.base import Tokenizer
from gptkit.text.tokenizers.plain import ByteTokenizer

SENTENCE = "To be at the café in 2025, or not to be?"
_WIDTH = 440.0
_SIGN = 7.6  # the width of a monospaced character
_HELD_OUT = 0.1

Options = Mapping[str, Any]


def tokenizer(component: Component, options: Options) -> Iterator[Figure]:
    """The tokens of one sentence with their numbers; nothing of one whose vocabulary has to be downloaded."""
    kind: type[Tokenizer] = component.load()
    keeps = kind.state is not Tokenizer.state
    if keeps and not kind.needs_corpus and not options:
        return
    made = kind(**options)
    note = "with the part's own example of a file" if options else ""
    if made.needs_corpus:
        made.fit([*Shakespeare().documents(), SENTENCE])
        note = "made from Shakespeare's plays and this sentence"
    tokens = made.encode(SENTENCE)
    yield _boxes(
        [readable(made.token_bytes(token)) for token in tokens],
        list(islice(cycle(("blue", "warm")), len(tokens))),
        f"{len(tokens)} tokens for {len(SENTENCE)} characters",
        note=note, numbers=tokens,
    )  # fmt: skip


def data(component: Component, options: Options) -> Iterator[Figure]:
    """Of examples, one that is trained on, a short and a long one that are asked about; of text, how it begins."""
    corpus: Corpus = component.load()(**options)
    if not isinstance(corpus, Examples):
        yield _beginning(corpus)
        return
    splits = corpus.splits(_HELD_OUT)
    asked = sorted((s for s in splits.values() if s.length is not None), key=lambda s: s.length or 0)
    yield _example(splits["train"], "Trained on", note="blue: what is scored; ⏎: the end")
    for split in (asked[0], asked[-1]) if asked else ():
        known = "" if split.trained else ", which is not trained on"
        yield _example(split, f"Asked about: length {split.length}{known}")


def readable(token: bytes) -> str:
    """The text of a token, with signs for spaces and line feeds; bytes that are no whole character in hexadecimal."""
    try:
        return token.decode("utf-8").replace(" ", "·").replace("\n", "⏎")
    except UnicodeDecodeError:
        return token.hex(" ").upper()


def _example(split: Asked, title: str, note: str = "") -> Figure:
    """The first example of a split, byte by byte; what is scored is blue."""
    first = Asked([next(iter(split.examples))], split.length, split.trained)
    spelling = ByteTokenizer()
    with tempfile.TemporaryDirectory() as folder:
        tokens_to, scored_to = Path(folder, "tokens"), Path(folder, "scored")
        encode_examples(first, spelling, tokens_to, scored_to, title)
        tokens, scored = np.fromfile(tokens_to, np.uint32), np.fromfile(scored_to, np.bool_)
    texts = [readable(spelling.token_bytes(int(token))) for token in tokens]
    return _boxes(texts, ["blue" if one else "off" for one in scored], title, note=note)


def _beginning(corpus: Corpus) -> Figure:
    documents = list(corpus.documents())
    lines = [line for line in documents[0].splitlines() if line][:8]
    counted = f"{len(documents)} documents, {sum(map(len, documents)):,} characters"
    return text_figure([[(counted, "strong")], [], *([(line[:58], "")] for line in lines)], _WIDTH)


def _boxes(
    texts: Sequence[str], colours: Sequence[str], title: str, *, note: str = "", numbers: Sequence[int] = ()
) -> Figure:
    """Texts in boxes, line by line, each with a number below it if there are any."""
    pad, gap, tall = (5.0, 3.0, 46.0) if numbers else (1.0, 1.0, 24.0)
    x, y, body = 0.0, 44.0 if note else 26.0, [f'<text class="title" y="12">{escape(title)}</text>']
    if note:
        body.append(f'<text class="small" y="30">{escape(note)}</text>')
    for index, (text, colour) in enumerate(zip(texts, colours, strict=True)):
        told = str(numbers[index]) if numbers else ""
        wide = max(_SIGN * len(text), 6.6 * len(told)) + 2 * pad
        if x + wide > _WIDTH:
            x, y = 0.0, y + tall
        fill = "" if colour == "off" else ' fill-opacity="0.3"'
        body += [
            f'<rect x="{x:.1f}" y="{y:g}" width="{wide:.1f}" height="20" rx="3" fill="var(--{colour})"{fill}/>',
            f'<g class="mono"><text x="{x + wide / 2:.1f}" y="{y + 14:g}" text-anchor="middle">'
            f"{escape(text)}</text></g>",
        ]
        if told:
            centre = f'x="{x + wide / 2:.1f}" y="{y + 33:g}" text-anchor="middle"'
            body.append(f'<text class="small" {centre}>{told}</text>')
        x += wide + gap
    return Figure(_WIDTH, y + tall - 4, "".join(body))
