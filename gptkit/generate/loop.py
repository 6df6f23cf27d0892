"""Text from a model, token by token."""

from __future__ import annotations

import hashlib
import inspect
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from gptkit import registry, schema
from gptkit.errors import ConfigError, GptkitError, UserError
from gptkit.generate.prompts import Prompt, prompt_rows
from gptkit.generate.reader import Reader, window
from gptkit.generate.samplers import Sampler
from gptkit.generate.speller import Speller
from gptkit.model.decoding import packed_for_decoding
from gptkit.model.gpt import GPT
from gptkit.text.tokenizers.base import Tokenizer

_log = logging.getLogger("gptkit")

Ending = Literal["max_tokens", "stop", "end_of_text"]
Choice = Sampler | str | Mapping[str, Any] | None


@dataclass(frozen=True)
class Continuation:
    """What a model wrote after a prompt.

    Attributes:
        text: without the prompt and without the stop string.
        tokens: those drawn, without the end of text.
        ended: by what.
    """

    text: str
    tokens: list[int]
    ended: Ending


def generate(model: GPT, tokenizer: Tokenizer, prompt: Prompt = "", **options: Any) -> list[str]:
    """Continue a text, or several at once.

    Args:
        model: a GPT; it writes in evaluation mode and is left in the mode it was in.
        tokenizer: what its tokens mean.
        prompt: a text or its tokens, or a list of such. An empty one starts at the end of text before it,
            or at a new line where the tokenizer has no end of text. Of one that is longer than the context
            the end is read, and a warning says so.
        **options: as of `continuations`.

    Returns:
        The texts without their prompts: all samples of the first prompt, then those of the next.

    Raises:
        UserError: an argument is wrong, or the tokenizer cannot spell the prompt.
        GptkitError: the model's scores are not numbers.
    """
    return [continuation.text for continuation in continuations(model, tokenizer, prompt, **options)]


def continuations(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: Prompt = "",
    *,
    max_tokens: int = 200,
    samples: int = 1,
    sampler: Choice = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    use_cache: bool = True,
) -> list[Continuation]:
    """As `generate`, with the tokens and the reason why each text ends.

    Args:
        model, tokenizer, prompt: as of `generate`.
        max_tokens: tokens to draw at most, for each text; the end of text ends it before.
        samples: texts for each prompt. Sample 2 is the same whether 3 or 30 are asked for.
        sampler: a `Sampler`, its name, or its config node; null takes the one of the model's config.
        seed: the same seed gives the same texts.
        stop: texts that end a sample; they are not part of it.
        use_cache: keep what the model has read; without it the text is the same, and slower.
    """
    drawn = _Drawn(model, tokenizer, prompt, max_tokens, samples, sampler, seed, stop, use_cache)
    texts = [""] * len(drawn.rows)
    for index, piece in drawn.pieces():
        texts[index] += piece
    return [Continuation(text, row.tokens, row.ended) for text, row in zip(texts, drawn.rows, strict=True)]


def stream(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int] = "",
    *,
    max_tokens: int = 200,
    sampler: Choice = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    use_cache: bool = True,
) -> Iterator[str]:
    """The first sample of `generate`, in pieces as they are drawn; no piece is empty or ends in half a character.

    Args and errors are those of `continuations`; the arguments are checked at once. Let the model's
    weights be until the stream has ended or is closed.
    """
    drawn = _Drawn(model, tokenizer, prompt, max_tokens, 1, sampler, seed, stop, use_cache)
    if len(drawn.rows) != 1:
        raise UserError(f"stream takes one prompt, got {len(drawn.rows)}. Take generate for several.")
    return (piece for _, piece in drawn.pieces())


def sampler_for(model: nn.Module, choice: Choice) -> Sampler:
    """The sampler that is chosen: itself, by name or by node, or that of the model's config.

    Raises:
        ConfigError: there is no such sampler, or it takes no such option.
    """
    if choice is None:
        choice = (getattr(model, "config", None) or {}).get("sampler") or "sample"
    if isinstance(choice, Sampler):
        return choice
    problems = schema.validate({"sampler": choice})
    if problems:
        raise ConfigError(problems)
    node = schema.normal_part(registry.SLOTS["sampler"], choice)
    return registry.load("sampler", node["name"])(**schema.part_options("sampler", node))


OPTIONS = tuple(
    name for name, p in inspect.signature(continuations).parameters.items() if p.kind is p.KEYWORD_ONLY
)


class _Row:
    """One text being written."""

    def __init__(self, prompt: list[int], seed: int, sample: int, speller: Speller, end: int | None) -> None:
        digest = hashlib.blake2b(f"{seed}/{sample}".encode(), digest_size=8).digest()
        self.random = random.Random(int.from_bytes(digest, "little")).random  # its own: no row moves another
        self.history, self.prompted = list(prompt), len(prompt)
        self.speller, self.end_of_text = speller, end
        self.ended: Ending = "max_tokens"
        self.open = True

    @property
    def tokens(self) -> list[int]:
        return self.history[self.prompted :]

    def take(self, token: int) -> str:
        """The text that a token makes certain."""
        if token == self.end_of_text:
            return self.close("end_of_text")
        self.history.append(token)
        text = self.speller.add(token)
        if self.speller.stopped:
            self.close("stop")
        return text

    def close(self, ended: Ending) -> str:
        self.open, self.ended = False, ended
        return self.speller.end()


class _Drawn:
    """Texts that are being drawn together, one row of a batch for each."""

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        prompt: Prompt,
        max_tokens: int,
        samples: int,
        sampler: Choice,
        seed: int,
        stop: str | Sequence[str],
        use_cache: bool,
    ) -> None:
        _whole("max_tokens", max_tokens, 0)
        _whole("samples", samples, 1)
        _whole("seed", seed, None)
        stops = _stops(stop)
        self.model, self.sampler, self.max_tokens = model, sampler_for(model, sampler), max_tokens
        self.use_cache = use_cache
        size = model.shape.vocab_size
        self.vocabulary = min(size, tokenizer.vocab_size)  # further rows of the table stand for nothing
        self.rows = [
            _Row(tokens, seed, sample, Speller(tokenizer, stops), tokenizer.end_of_text)
            for tokens in prompt_rows(tokenizer, prompt, size)
            for sample in range(samples)
        ]
        longest, reads = max(row.prompted for row in self.rows), window(model)
        if longest > reads:
            _log.warning("The prompt has %d tokens; the model reads the last %d of them.", longest, reads)

    @torch.inference_mode()
    def pieces(self) -> Iterator[tuple[int, str]]:
        """Each new piece of text, with the number of its row."""
        if not self.max_tokens:
            return
        reads = window(self.model)
        single = len(self.rows) == 1 and self.use_cache and self.max_tokens > 1
        with _decoding(self.model, single):
            prompts = [row.history[-reads:] for row in self.rows]
            reader = Reader(self.model, prompts, self.max_tokens, self.use_cache)
            for left in range(self.max_tokens - 1, -1, -1):
                drawn = self._draw(reader)
                yield from self._taken(drawn.tolist(), last=not left)
                if not left or not any(row.open for row in self.rows):
                    return
                reader.add(drawn)

    def _draw(self, reader: Reader) -> torch.Tensor:
        scores = reader.scores()[:, : self.vocabulary]
        histories = [row.history for row in self.rows]
        return self.sampler.draw(scores, histories, [row.random() for row in self.rows])

    def _taken(self, tokens: list[int], last: bool) -> Iterator[tuple[int, str]]:
        for index, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            if not row.open:
                continue
            if token < 0:
                raise GptkitError(
                    f"No token can be drawn after {len(row.history)} tokens: the model's scores are not numbers. "
                    "Its weights may have diverged in training; take an earlier checkpoint, or a lower learning rate."
                )
            text = row.take(token)
            if last and row.open:
                text += row.close("max_tokens")
            if text:
                yield index, text


@contextmanager
def _decoding(model: GPT, single: bool) -> Iterator[None]:
    """The model in evaluation mode, its maps packed where it will read tokens one by one."""
    training = model.training
    model.eval()
    whole = all(type(parameter) is nn.Parameter for parameter in model.parameters())  # not a shard of one
    try:
        with packed_for_decoding(model) if single and whole else nullcontext():
            yield
    finally:
        model.train(training)


def _whole(name: str, value: object, least: int | None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        range_ = "" if least is None else f" of {least} or more"
        raise UserError(f"{name}: expected a whole number{range_}, got {value!r}.")


def _stops(stop: object) -> list[str]:
    stops = [stop] if isinstance(stop, str) else list(stop) if isinstance(stop, Sequence) else [None]
    if not all(isinstance(text, str) and text for text in stops):
        raise UserError(f"stop: expected a text or a list of texts, none of them empty, got {stop!r}.")
    return stops  # type: ignore[return-value]
