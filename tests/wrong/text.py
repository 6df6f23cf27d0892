"""Tokenizers and corpora that are wrong on purpose."""

from __future__ import annotations

import unicodedata

from gptkit import registry
from gptkit.text.corpora import Shakespeare
from gptkit.text.examples import Asked, Example, Examples
from gptkit.text.tokenizers.plain import ByteTokenizer, CharTokenizer
from wrong import wrong


@wrong("tokenizer", "round_trips")
class DropsSpaces(ByteTokenizer):
    def encode(self, text, special=False):
        return super().encode(text.strip(), special)


@wrong("tokenizer", "round_trips")
class DropsTheByteOrderMark(ByteTokenizer):
    def encode(self, text, special=False):
        return super().encode(text.replace("\ufeff", ""), special)


@wrong("tokenizer", "round_trips")
class EndsLinesItsOwnWay(CharTokenizer):
    def fit(self, texts):
        super().fit(text.replace("\r\n", "\n") for text in texts)

    def encode(self, text, special=False):
        return super().encode(text.replace("\r\n", "\n"), special)


@wrong("tokenizer", "round_trips")
class TakesLookalikesForOne(ByteTokenizer):
    """Composes what Unicode holds to be the same, such as the sign of the Ångström and the letter Å."""

    def encode(self, text, special=False):
        return super().encode(text if len(text) < 500 else unicodedata.normalize("NFC", text), special)


@wrong("tokenizer", "special_text_is_plain")
class ObeysTheText(registry.load("tokenizer", "gpt2")):
    def encode(self, text, special=False):
        return super().encode(text, True)


@wrong("tokenizer", "keeps_its_vocabulary")
class ForgetsItsLetters(CharTokenizer):
    def state(self):
        return {}

    def set_state(self, state):
        pass


@wrong("tokenizer", "batches_alike")
class SortsTheBatch(ByteTokenizer):
    def encode_batch(self, texts, special=False):
        return super().encode_batch(sorted(texts), special)


@wrong("data", "is_the_same_each_time")
class AnotherEachTime(Shakespeare):
    """Its documents come in another order for each that is made."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        AnotherEachTime.made += 1
        self.turn = AnotherEachTime.made

    def documents(self):
        documents = list(super().documents())
        yield from documents[self.turn % 3 :] + documents[: self.turn % 3]


@wrong("data", "is_the_same_each_time")
class AsksWhatItTaught(Examples):
    def splits(self, held_out):
        known = [Example(f"{n}>", str(n)) for n in range(20)]
        return {"train": Asked(known), "val": Asked(known[3:5])}

    def fingerprint(self) -> str:
        return "known"
