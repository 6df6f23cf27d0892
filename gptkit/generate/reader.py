"""What a model is given to read for each new token: its cache, and what happens past its context.

What a model says does not depend on whether its cache is used. Within its context length it reads all
of the text. Past it:

- where positions are relative (none, rotary, alibi), each token reads the last `context_length` tokens,
  itself among them, in every layer: the cache drops its oldest token at each step, which costs nothing
  (a recurrent attention keeps no tokens that could be dropped: it has read all of the text);
- elsewhere (learned, sinusoidal), the last `context_length` tokens are read anew for each token, as a
  text of their own: the model meets only positions that it was trained on. No cache can serve there, as
  each token's place changes at each step;
- a model that is not causal (a full mask) is read anew always: its tokens read later ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gptkit.model.cache import Caches
from gptkit.model.gpt import GPT
from gptkit.model.interfaces import Mask, MaskContext
from gptkit.model.masks import SlidingWindow, dense

_ROOM = 4096  # tokens that are foreseen; where more come, the room doubles
_PROBE = 512  # positions at which a mask is asked whether it is causal


class Reader:
    """A text in several rows, growing by one token in each at a time, and the scores of what comes next.

    Rows of different lengths are padded on the left; a row's scores are those it would have alone.

    Args:
        model: the GPT, in evaluation mode.
        rows: the tokens of each row, at least one and at most `window(model)`.
        more: how many tokens will be added at most.
        use_cache: keep keys and values; without it all is computed anew at each step.
    """

    def __init__(self, model: GPT, rows: Sequence[Sequence[int]], more: int, use_cache: bool = True) -> None:
        self.model, self.window = model, window(model)
        self.end = max(map(len, rows))  # tokens that stand in each row, padding among them
        device = next(model.embedding.parameters()).device
        padded = [[0] * (self.end - len(row)) + list(row) for row in rows]
        self.tokens = F.pad(torch.tensor(padded, device=device), (0, min(more, _ROOM)))
        real = [[at >= self.end - len(row) for at in range(self.end)] for row in rows]
        self.padding = ~torch.tensor(real, device=device)  # [B, the prompts' length]
        self.padded = self.end - min(map(len, rows))  # columns that hold padding are the first of them
        causal = is_causal(model)
        self.slides = causal and is_relative(model)
        self.held = 0  # tokens that the cache has read
        self.caches: Caches | None = None
        if use_cache and causal:
            total = self.end + more
            slide = self.slides and total > self.window
            self.caches = model.new_caches(len(rows), min(total, self.window), slide=slide)

    def scores(self) -> Tensor:
        """[B, V], the score of each token that may come next."""
        if self.caches is None or (self.end > self.window and not self.slides):
            self.caches = None
            return self._anew()
        new = self.end - self.held
        if self.caches.length + new > self.window:
            self.caches.slide(self.window - new)
        return self._read(self.held, self.caches)

    def add(self, tokens: Tensor) -> None:
        """One more token in each row, [B]."""
        if self.end == self.tokens.shape[1]:
            self.tokens = F.pad(self.tokens, (0, self.end))
        self.tokens[:, self.end] = tokens
        self.end += 1

    def _anew(self) -> Tensor:
        if not self.slides:
            return self._read(max(0, self.end - self.window))
        if self.end <= self.window:
            return self._read(0)
        with windowed(self.model, self.window):
            return self._read(0)

    def _read(self, first: int, caches: Caches | None = None) -> Tensor:
        """The model's scores after the tokens from `first` on."""
        padding = None
        if first < self.padded:
            padding = F.pad(self.padding[:, first:], (0, self.end - self.padding.shape[1]), value=False)
        tokens = self.tokens[:, first : self.end]
        scores = self.model(tokens, padding=padding, caches=caches, last_only=True)
        self.held = self.end
        return scores[:, -1]


def window(model: GPT) -> int:
    """How many tokens the model reads at once."""
    return min(model.shape.context_length, model.max_positions or model.shape.context_length)


def is_relative(model: GPT) -> bool:
    """Whether only distances matter in every layer, so that a window may slide over a cache."""
    positions = [model.position, *(attention.position for attention in _attentions(model))]
    ends = model.max_positions is not None or any(mask.has_end for mask in _masks(model))
    return all(position.is_relative for position in positions) and not ends


def is_causal(model: GPT) -> bool:
    """Whether no token reads a later one, so that what is cached stays right as the text grows."""
    in_doubt = [mask for mask in _masks(model) if not mask.causal_in(MaskContext())]
    return not any(mask.has_end for mask in in_doubt) and not reads_ahead(model)  # past its end none can tell


def reads_ahead(model: GPT) -> bool:
    """Whether some token of a context may read a later one, perhaps the one that it is to predict."""
    device = next(model.embedding.parameters()).device
    at = torch.arange(min(window(model), _PROBE), device=device).unsqueeze(0)
    return any(_shows_later(mask, at) for mask in _masks(model))


def _shows_later(mask: Mask, at: Tensor) -> bool:
    context = MaskContext()
    return not mask.causal_in(context) and bool(dense(mask, at, at, context).triu(1).any())


def _attentions(model: GPT) -> list[Any]:
    return [block.attention for block in model.blocks]


def _masks(model: GPT) -> list[Mask]:
    """Each mask that a layer uses, once."""
    return list({id(attention.mask): attention.mask for attention in _attentions(model)}.values())


@contextmanager
def windowed(model: GPT, length: int) -> Iterator[None]:
    """Within this context, a token of any layer reads those less than `length` before it at most."""
    narrow = SlidingWindow(window=length)
    joined = {id(mask): mask & narrow for mask in _masks(model)}
    windows = [attention for attention in _attentions(model) if not attention.is_recurrent]
    before = [(attention, vars(attention).get("mask")) for attention in windows]
    for attention, _ in before:
        vars(attention)["mask"] = joined[id(attention.mask)]  # stands before a mask of its own
    try:
        yield
    finally:
        for attention, mask in before:
            if mask is None:
                del vars(attention)["mask"]
            else:
                vars(attention)["mask"] = mask
