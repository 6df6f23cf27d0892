"""Tokenizers that are wrong on purpose."""

from __future__ import annotations

from gptkit import registry
from gptkit.text.tokenizers.plain import ByteTokenizer, CharTokenizer
from wrong import wrong


@wrong("tokenizer", "round_trips")
class DropsSpaces(ByteTokenizer):
    def encode(self, text, special=False):
        return super().encode(text.strip(), special)


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
