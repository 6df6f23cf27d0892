"""What a model keeps of the tokens it has read, so that the next one costs one step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gptkit.model.step import LayerCache


class KeyValueCache:
    """Keys and values of one layer, in buffers that are written once and never copied while they fit.

    The buffers hold twice the capacity, so that a window may slide by moving its start; only when
    the end is reached are the kept tokens moved to the front.

    Attributes:
        keys: [B, Hkv, 2 * capacity, Dk].
        values: [B, Hkv, 2 * capacity, Dv].
        first, end: the tokens held are those from `first` up to `end`.
    """

    def __init__(
        self,
        batch: int,
        capacity: int,
        keys: tuple[int, int],
        values: tuple[int, int],
        device: torch.device,
        dtype: torch.dtype,
        slack: int = 1,
    ) -> None:
        """Args:
        keys, values: (heads, width) of each.
        slack: 2 gives room to slide without moving at every token.
        """
        self.keys = torch.zeros(batch, keys[0], capacity * slack, keys[1], device=device, dtype=dtype)
        self.values = torch.zeros(batch, values[0], capacity * slack, values[1], device=device, dtype=dtype)
        self.first = self.end = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep [B, Hkv, T, D] more; returns all that are held, [B, Hkv, S, D]."""
        if self.end + k.shape[-2] > self.keys.shape[-2]:
            self._to_front()
        start, self.end = self.end, self.end + k.shape[-2]
        self.keys[:, :, start : self.end] = k
        self.values[:, :, start : self.end] = v
        return self.keys[:, :, self.first : self.end], self.values[:, :, self.first : self.end]

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens held."""
        self.end = self.first + length

    def slide(self, keep: int) -> None:
        """Forget all but the last `keep` tokens held."""
        self.first = self.end - keep

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` tokens in all."""
        held = self.end - self.first
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = old.new_zeros(*old.shape[:2], capacity, old.shape[-1])
            new[:, :, :held] = old[:, :, self.first : self.end]
            setattr(self, name, new)
        self.first, self.end = 0, held

    def _to_front(self) -> None:
        held = self.end - self.first
        self.keys[:, :, :held] = self.keys[:, :, self.first : self.end].clone()
        self.values[:, :, :held] = self.values[:, :, self.first : self.end].clone()
        self.first, self.end = 0, held

    @property
    def bytes(self) -> int:
        """Memory that the tokens held take."""
        row = self.keys[:, :, :1].nbytes + self.values[:, :, :1].nbytes
        return row * (self.end - self.first)


class Caches:
    """The caches of all layers, and what masks need to know of the tokens they hold.

    Attributes:
        layers: one cache for each block, as its attention made it.
        length: tokens held.
        capacity: tokens that can be held at once.
        origin: the position of the first token held, where rows do not differ.
    """

    def __init__(self, layers: Sequence[LayerCache], capacity: int) -> None:
        self.layers = list(layers)
        self.capacity = capacity
        self.length = 0
        self.origin = 0
        self._dropped: Tensor | int = 0  # tokens that slid out and were not padding, [B, 1] where rows differ
        self._tracks: dict[str, Tensor] = {}

    def track(self, name: str, new: Tensor | None, default: Tensor) -> Tensor | None:
        """Remember a [B, T] fact about each token (position, document, padding); returns it for all held.

        Args:
            name: which fact.
            new: [1|B, T] for this step's tokens, or None where it was not told.
            default: [1, S] over all tokens held, this step's last: what holds for those never told.
        """
        if new is None and name not in self._tracks:
            return None
        old = self._tracks.get(name, default[:, : self.length])
        new = default[:, self.length :] if new is None else new
        rows = max(old.shape[0], new.shape[0])
        held = torch.cat([old.expand(rows, -1), new.expand(rows, -1).to(old.dtype)], dim=1)
        self._tracks[name] = held
        return held

    def unpadded(self) -> Tensor | None:
        """How many tokens that are not padding each row has read, [B, 1]; None where none was padding."""
        padding = self._tracks.get("padding")
        return None if padding is None else self._dropped + (~padding).sum(-1, keepdim=True)

    def advance(self, tokens: int) -> None:
        """Count the tokens of a step, once every layer has kept them."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Go back to the first `length` tokens held."""
        length = min(length, self.length)
        for layer in self.layers:
            layer.truncate(length)
        self._tracks = {name: held[:, :length] for name, held in self._tracks.items()}
        self.length = length

    def slide(self, keep: int) -> None:
        """Drop the oldest tokens, so that the last `keep` remain."""
        keep = min(keep, self.length)
        if "padding" in self._tracks:
            gone = ~self._tracks["padding"][:, : self.length - keep]
            self._dropped = self._dropped + gone.sum(-1, keepdim=True)
        else:
            self._dropped += self.length - keep
        for layer in self.layers:
            layer.slide(keep)
        self._tracks = {name: held[:, held.shape[1] - keep :] for name, held in self._tracks.items()}
        self.origin += self.length - keep
        self.length = keep

    @property
    def bytes(self) -> int:
        """Memory that the tokens held take, over all layers."""
        return sum(layer.bytes for layer in self.layers)
