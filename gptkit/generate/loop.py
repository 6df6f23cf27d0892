"""The generation loop: draw a token, read it, draw the next."""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from gptkit import registry
from gptkit.errors import UserError
from gptkit.generate.samplers import Sample, Sampler
from gptkit.model.decoding import packed_for_decoding
from gptkit.model.init import seed_of

if TYPE_CHECKING:
    from gptkit.model.gpt import GPT
    from gptkit.text.tokenizers.base import Tokenizer

_WORTH_PACKING = 24  # tokens from which on a second copy of the weights pays


def generate(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int] = "",
    *,
    max_tokens: int = 200,
    samples: int = 1,
    sampler: Sampler | Mapping[str, Any] | str | None = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    use_cache: bool = True,
) -> list[str]:
    """Continue a text.

    Past the context length the model reads the last `context_length` tokens. Where positions are relative
    the cache drops its oldest token; otherwise those tokens are read anew at each step, from position 0.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        prompt: text, or token numbers; an empty one starts at the end of a text, or at a line feed.
        max_tokens: how many to draw at most; a drawn end of text ends a sample.
        samples: how many continuations; sample i does not depend on how many are drawn.
        sampler: a part, its config or its name; `sample` if left out.
        seed: together with a sample's number it decides the draws.
        stop: texts before which a sample ends.
        use_cache: read each token once; without it the whole text is read for every token.

    Returns:
        The continuations, without the prompt.

    Raises:
        UserError: an option is out of range, or the prompt cannot be spelt.
    """
    texts = [""] * samples
    for row, piece in stream(
        model, tokenizer, prompt, max_tokens=max_tokens, samples=samples, sampler=sampler,
        seed=seed, stop=stop, use_cache=use_cache,
    ):  # fmt: skip
        texts[row] += piece
    return texts


def stream(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int] = "",
    *,
    max_tokens: int = 200,
    samples: int = 1,
    sampler: Sampler | Mapping[str, Any] | str | None = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    use_cache: bool = True,
) -> Iterator[tuple[int, str]]:
    """`generate`, piece by piece: yields (number of the sample, text) as soon as a text is certain.

    A piece is whole characters, and never holds a part of a stop text.
    """
    if max_tokens < 0 or samples < 1:
        raise UserError(f"max_tokens={max_tokens}, samples={samples}: expected 0 or more, and 1 or more.")
    chosen = make_sampler(sampler)
    tokens = start_tokens(tokenizer, prompt)
    stops = [stop] if isinstance(stop, str) else [text for text in stop if text]
    rows = [
        _Row(number, list(tokens), _Decoder(tokenizer, stops), torch.Generator().manual_seed(seed_of(seed, f"row/{number}")))
        for number in range(samples)
    ]  # fmt: skip
    packed = max_tokens >= _WORTH_PACKING and samples == 1 and use_cache
    reader = _Reader(model, samples, len(tokens) + max_tokens, use_cache)
    with packed_for_decoding(model) if packed else contextlib.nullcontext():
        for _ in range(max_tokens):
            if all(row.done for row in rows):
                break
            with torch.inference_mode():
                drawn = _draw(chosen, reader.logits(rows), rows)
            for row, token in zip(rows, drawn, strict=True):
                piece = row.take(token, tokenizer)
                if piece:
                    yield row.number, piece
    for row in rows:
        piece = "" if row.done else row.decoder.finish()
        if piece:
            yield row.number, piece


def make_sampler(sampler: Sampler | Mapping[str, Any] | str | None) -> Sampler:
    """A sampler from what may stand for one."""
    if sampler is None:
        return Sample()
    if isinstance(sampler, Sampler):
        return sampler
    node = {"name": sampler} if isinstance(sampler, str) else dict(sampler)
    return registry.load("sampler", node.pop("name", "sample"))(**node)


def start_tokens(tokenizer: Tokenizer, prompt: str | Sequence[int]) -> list[int]:
    """The tokens to start from; there is always one."""
    tokens = tokenizer.encode(prompt) if isinstance(prompt, str) else [int(token) for token in prompt]
    if tokens:
        return tokens
    if tokenizer.end_of_text is not None:
        return [tokenizer.end_of_text]
    return tokenizer.encode("\n")


@dataclass
class _Row:
    """One continuation."""

    number: int
    tokens: list[int]
    decoder: _Decoder
    generator: torch.Generator
    done: bool = False

    def take(self, token: int, tokenizer: Tokenizer) -> str:
        """Add a token; returns the text that is now certain."""
        if self.done:
            return ""
        self.tokens.append(token)
        if token == tokenizer.end_of_text:
            self.done = True
            return self.decoder.finish()
        piece, self.done = self.decoder.add(token)
        return piece


def _draw(sampler: Sampler, logits: Tensor, rows: list[_Row]) -> list[int]:
    """The next token of each row, from its own generator."""
    if sampler.is_greedy:
        return logits.argmax(-1).tolist()
    chances = sampler.probabilities(logits, [row.tokens for row in rows]).cpu()
    uniform = [torch.rand((), generator=row.generator, dtype=torch.float64) for row in rows]
    mass = chances.double().cumsum(-1)  # inverse transform: one number a token, whatever the vocabulary
    aim = (torch.stack(uniform) * mass[:, -1]).unsqueeze(-1)
    found = torch.searchsorted(mass, aim, right=True).squeeze(-1)
    last = chances.shape[-1] - 1 - (chances.flip(-1) > 0).to(torch.int8).argmax(-1)
    return torch.minimum(found, last).tolist()


class _Reader:
    """Gives the scores of the next tokens, reading as little as it can."""

    def __init__(self, model: GPT, rows: int, most: int, use_cache: bool) -> None:
        self.model, self.window = model, model.shape.context_length
        self.kind = overflow(model)
        self.caches = None
        if use_cache:
            capacity = min(most, self.window)
            self.caches = model.new_caches(rows, capacity, slide=self.kind == "slide" and most > self.window)

    def logits(self, rows: list[_Row]) -> Tensor:
        """[B, V] after the last token of each row."""
        texts = [row.tokens for row in rows]
        longest = max(len(text) for text in texts)
        texts = [text + [text[-1]] * (longest - len(text)) for text in texts]  # rows that are done wait
        caches = self.caches
        if caches is None or (longest > self.window and self.kind == "reread"):
            return self._read([text[-self.window :] for text in texts], None)
        if caches.length == 0:
            return self._read([text[-self.window :] for text in texts], caches)
        if caches.length == caches.capacity:
            caches.slide(caches.capacity - 1)
        return self._read([text[-1:] for text in texts], caches)

    def _read(self, texts: list[list[int]], caches: Any) -> Tensor:
        tokens = torch.tensor(texts, device=self.model.embedding.weight.device)
        return self.model(tokens, caches=caches, last_only=True)[:, -1]


def overflow(model: GPT) -> Literal["slide", "reread"]:
    """What happens past the context length: a sliding cache needs positions that only tell distances."""
    positions = [model.position, *(block.attention.position for block in model.blocks)]  # type: ignore[union-attr]
    return "slide" if all(getattr(p, "is_relative", False) for p in positions) else "reread"


@dataclass
class _Decoder:
    """Tokens to text as they come: whole characters, and nothing that a stop text may take back."""

    tokenizer: Tokenizer
    stops: list[str]
    pending: str = ""
    utf8: Any = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def add(self, token: int) -> tuple[str, bool]:
        """The text that is now certain, and whether a stop text was met."""
        self.pending += self.utf8.decode(self.tokenizer.token_bytes(token))
        found = [at for at in (self.pending.find(stop) for stop in self.stops) if at >= 0]
        if found:
            return self.pending[: min(found)], True
        held = max((_overlap(self.pending, stop) for stop in self.stops), default=0)
        cut = len(self.pending) - held
        piece, self.pending = self.pending[:cut], self.pending[cut:]
        return piece, False

    def finish(self) -> str:
        """What is left, at the end."""
        return self.pending + self.utf8.decode(b"", final=True)


def _overlap(text: str, stop: str) -> int:
    """How many last characters of `text` may begin `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
