"""What a model costs before it is trained: parameters by part, operations for each token, memory.

Operations are the multiplications and additions of matrix products alone, two for each pair of
numbers, as Kaplan et al. (2020, section 2.1) and Chowdhery et al. (2022, appendix B) count:

- weights: 2 for each weight that a token meets, the head's among them, which PaLM counts and Kaplan
  leaves out; a table that is only looked up costs nothing;
- reading: 2 for each number of each key, and of each value, in every query head. All keys of the
  context are counted, those that a mask hides as well, as PaLM does; Kaplan counts the same.
  `Operations.visible` tells what the mask leaves: about half for a causal one;
- the backward pass costs twice the forward pass. What is computed anew to save memory is not counted.

They are counted by running the model on the meta device, so any part is counted as it is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gptkit.errors import PositionRangeError
from gptkit.model.dry_run import Place, count, place_of, saved_bytes
from gptkit.model.gpt import GPT
from gptkit.model.interfaces import Mask, MaskContext
from gptkit.model.masks import dense

_MOST_PAIRS = 1 << 24  # of a query and a key that a mask is asked about


@dataclass(frozen=True)
class Operations:
    """Operations of one forward pass for each token.

    Attributes:
        keys: how many keys each token reads in this count.
        weights: with parameters, by layer and part.
        reading: of tokens with one another, by layer and part, all keys counted.
        visible: of these, what the masks let through.
        guessed: parts that could not be run; counted as if each token met every weight.
    """

    keys: int
    weights: dict[Place, float]
    reading: dict[Place, float]
    visible: float
    guessed: tuple[str, ...]

    @property
    def forward(self) -> float:
        """All of them."""
        return sum(self.weights.values()) + sum(self.reading.values())

    @property
    def training(self) -> float:
        """Forward and backward pass."""
        return 3 * self.forward

    def by_part(self) -> dict[str, float]:
        """The forward pass by part, layers summed."""
        return _summed({**{p: self.weights.get(p, 0.0) + self.reading.get(p, 0.0) for p in self._places()}})

    def _places(self) -> Iterable[Place]:
        return dict.fromkeys([*self.weights, *self.reading])


def flops_per_token(model: GPT, context_length: int | None = None, backward: bool = True) -> float:
    """Operations for each token: one forward pass, and with `backward` the backward pass as well.

    Args:
        model: on any device, `meta` among them.
        context_length: keys that a token may read; the model's own if left out.
        backward: count the backward pass.

    Raises:
        PositionRangeError: the model cannot tell so many positions.
    """
    tokens = context_length or model.shape.context_length
    tally = count(model, tokens)
    forward = (sum(tally.weights.values()) + sum(tally.reading.values())) / tokens
    return forward * (3 if backward else 1)


def operations(model: GPT, context_length: int | None = None) -> Operations:
    """The same in detail."""
    tokens = context_length or model.shape.context_length
    tally = count(model, tokens)
    shares: dict[int, float] = {}
    visible = 0.0
    for (layer, _), operations in tally.reading.items():
        mask: Any = model.mask if layer is None else model.blocks[layer].attention.mask  # type: ignore[union-attr]
        if id(mask) not in shares:
            shares[id(mask)] = visible_share(mask, tokens)
        visible += shares[id(mask)] * operations / tokens
    each = [{place: n / tokens for place, n in held.items()} for held in (tally.weights, tally.reading)]
    return Operations(tokens, each[0], each[1], visible, tuple(sorted(tally.guessed)))


def visible_share(mask: Mask, tokens: int) -> float:
    """The share of the pairs of a query and a key that a mask allows, among so many tokens.

    Of a long text, evenly spaced queries are asked.
    """
    tokens = min(tokens, mask_end(mask, tokens))
    rows = min(tokens, max(1, _MOST_PAIRS // tokens))
    queries = torch.linspace(0, tokens - 1, rows).round().long().unsqueeze(0)
    keys = torch.arange(tokens).unsqueeze(0)
    allowed = dense(mask, queries, keys, MaskContext()).expand(1, rows, tokens)
    return float(allowed.double().mean())


def mask_end(mask: Mask, most: int) -> int:
    """How many positions a mask knows, up to `most`."""
    low, high = 1, most if mask.has_end else 1
    while low < high:
        middle = (low + high + 1) // 2
        at = torch.tensor([[middle - 1]])
        try:
            dense(mask, at, at, MaskContext())
            low = middle
        except PositionRangeError:
            high = middle - 1
    return low if mask.has_end else most


def parameters_by_part(model: GPT) -> dict[str, int]:
    """Parameters of each part of the model, layers summed; shared ones once, where they come first."""
    found: Counter[Place] = Counter()
    for name, parameter in model.named_parameters():
        found[place_of(model, name)] += parameter.numel()
    return {part: int(total) for part, total in _summed(found).items()}


def _summed(held: dict[Place, Any]) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for (_, part), amount in held.items():
        total[part] += amount
    return dict(total)


@dataclass(frozen=True)
class Memory:
    """Bytes, everything in float32.

    Attributes:
        rows, length: of the batch that is trained on at once.
        weights: the parameters.
        gradients: one for each parameter that learns.
        moments: AdamW's two averages of each gradient.
        activations: what the forward pass keeps for the backward pass; an estimate.
        cache_per_token: keys and values of one more token, over all layers.
        cache: of one text of `length` tokens.
    """

    rows: int
    length: int
    weights: int
    gradients: int
    moments: int
    activations: int
    cache_per_token: int
    cache: int

    @property
    def training(self) -> int:
        """All that training holds at once."""
        return self.weights + self.gradients + self.moments + self.activations

    @property
    def decoding(self) -> int:
        """The weights, and the cache of one text."""
        return self.weights + self.cache


def memory(model: GPT, batch: int = 1, length: int | None = None) -> Memory:
    """Memory of training on `batch` rows of `length` tokens on one device, and of decoding one text.

    The activations are an estimate: they are what autograd keeps with fused attention. Passing
    buffers come on top, such as the logits of a part of the batch. bf16 autocast keeps about half.
    """
    length = length or model.shape.context_length
    weights = 4 * model.n_parameters(trainable=False)
    gradients = 4 * model.n_parameters()
    kept = saved_bytes(model, batch, length)
    whole = cache_bytes(model, length)
    step = cache_bytes(model, length + 1) - whole
    return Memory(batch, length, weights, gradients, 2 * gradients, kept, step, whole)


def cache_bytes(model: GPT, tokens: int = 1) -> int:
    """Bytes of the caches of all layers for one text of `tokens` tokens, in float32."""
    device = torch.device("meta")
    caches = [block.attention.new_cache(1, tokens, device, torch.float32) for block in model.blocks]  # type: ignore[union-attr, operator]
    return sum(_bytes(cache) for cache in caches)


def _bytes(held: Any) -> int:
    """The tensors that an object holds, at whatever depth."""
    if isinstance(held, Tensor):
        return held.nbytes
    if isinstance(held, dict):
        return sum(_bytes(value) for value in held.values())
    if isinstance(held, (list, tuple)):
        return sum(_bytes(value) for value in held)
    return sum(_bytes(value) for value in vars(held).values()) if hasattr(held, "__dict__") else 0
