"""How another library keeps a weight of ours: under which names, and in which order its numbers lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gptkit.errors import UserError

Get = Callable[..., Tensor]  # a name, and perhaps an older one


@dataclass(frozen=True)
class Same:
    """One tensor, as it is.

    Attributes:
        theirs: its name.
        turned: they keep a map as [in, out].
        skipped: their table begins with so many rows that ours lacks; they are written as zeros.
        once: the name that it had in older files.
    """

    theirs: str
    turned: bool = False
    skipped: int = 0
    once: str = ""

    def read(self, get: Get) -> Tensor:
        tensor = get(self.theirs, self.once)[self.skipped :]
        return tensor.t().contiguous() if self.turned and tensor.ndim == 2 else tensor

    def write(self, ours: Tensor) -> Iterator[tuple[str, Tensor]]:
        tensor = ours.t().contiguous() if self.turned and ours.ndim == 2 else ours
        yield self.theirs, torch.cat([tensor.new_zeros(self.skipped, *tensor.shape[1:]), tensor])


@dataclass(frozen=True)
class Stacked:
    """Several tensors, one below the other in ours.

    Attributes:
        theirs: their names.
        rows: how many rows each has.
    """

    theirs: tuple[str, ...]
    rows: tuple[int, ...]

    def read(self, get: Get) -> Tensor:
        return torch.cat([get(name) for name in self.theirs])

    def write(self, ours: Tensor) -> Iterator[tuple[str, Tensor]]:
        for name, part in zip(self.theirs, ours.split(list(self.rows)), strict=True):
            yield name, part.contiguous()


@dataclass(frozen=True)
class Grouped:
    """Queries, keys and values in one tensor, group by group: a key head's queries, its key, its value.

    Ours has all queries, then all keys, then all values.

    Attributes:
        theirs: its name.
        heads: query heads.
        kv_heads: heads of keys and values.
    """

    theirs: str
    heads: int
    kv_heads: int

    def read(self, get: Get) -> Tensor:
        tensor = get(self.theirs)
        each = self.heads // self.kv_heads
        grouped = tensor.reshape(self.kv_heads, each + 2, -1, *tensor.shape[1:])
        q, k, v = grouped.split([each, 1, 1], dim=1)
        return torch.cat([part.reshape(-1, *tensor.shape[1:]) for part in (q, k, v)])

    def write(self, ours: Tensor) -> Iterator[tuple[str, Tensor]]:
        each, rest = self.heads // self.kv_heads, ours.shape[1:]
        width = ours.shape[0] // (self.heads + 2 * self.kv_heads)
        sizes = [self.heads * width, self.kv_heads * width, self.kv_heads * width]
        q, k, v = (part.reshape(self.kv_heads, -1, width, *rest) for part in ours.split(sizes))
        assert q.shape[1] == each
        yield self.theirs, torch.cat([q, k, v], dim=1).reshape(-1, *rest).contiguous()


Layout = Same | Stacked | Grouped


def read_all(
    layouts: Mapping[str, Layout], state: Mapping[str, Tensor], ignored: Callable[[str], bool]
) -> dict[str, Tensor]:
    """Their weights under our names.

    Args:
        layouts: for each of our weights, how they keep it.
        state: their weights by name.
        ignored: whether a name that no layout takes holds nothing that is learned.

    Raises:
        UserError: a name is missing or belongs to nothing; tells all of them.
    """
    used: set[str] = set()
    missing: list[str] = []

    def get(name: str, once: str = "") -> Tensor:
        name = once if once in state else name
        used.add(name)
        if name not in state:
            missing.append(name)
            return torch.zeros(1, 1)
        return state[name]

    found: dict[str, Tensor] = {}
    for ours, layout in layouts.items():
        before = len(missing)
        try:
            tensor = layout.read(get)
        except RuntimeError as error:
            if len(missing) == before:
                raise UserError(f"{ours} has another shape than its config says: {error}") from None
            continue
        found[ours] = tensor
    strange = [name for name in state if name not in used and not ignored(name)]
    if missing or strange:
        told = [f"{name} is missing" for name in missing] + [f"{name} belongs to nothing" for name in strange]
        more = f" and {len(told) - 8} more" if len(told) > 8 else ""
        raise UserError(f"The weights do not fit the config: {'; '.join(told[:8])}{more}.")
    return found


def write_all(layouts: Mapping[str, Layout], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under their names."""
    return {name: tensor for key, layout in layouts.items() for name, tensor in layout.write(ours[key])}
