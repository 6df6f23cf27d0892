"""How another library keeps a weight of ours: under which names, and in which order its numbers lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gptkit.errors import UserError


class Get:
    """Their weights by name, as they are asked for.

    Attributes:
        used: names that were asked for and found.
        missing: names that were not.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state
        self.used: set[str] = set()
        self.missing: list[str] = []

    def __call__(self, name: str, once: str = "") -> Tensor:
        """A weight by its name, or by the one that it had in older files."""
        name = once if once in self.state else name
        if name not in self.state:
            self.missing.append(name)
            return torch.zeros(1, 1)
        self.used.add(name)
        return self.state[name]


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


@dataclass(frozen=True)
class Experts:
    """One map for each expert: [E, in, out] in ours; in files a map [out, in] for each expert by itself.

    Attributes:
        theirs: names of the maps that stand side by side in ours, such as gate and up, with `{}` for
            the expert's number.
        count: experts.
        whole: the name of all of them in one tensor [E, out, in], as a model in memory has it.
    """

    theirs: tuple[str, ...]
    count: int
    whole: str

    def read(self, get: Get) -> Tensor:
        if self.whole in get.state:
            return get(self.whole).transpose(1, 2).contiguous()
        each = [torch.cat([get(name.format(e)) for name in self.theirs]).t() for e in range(self.count)]
        return torch.stack(each)

    def write(self, ours: Tensor) -> Iterator[tuple[str, Tensor]]:
        for e, both in enumerate(ours):
            for name, part in zip(self.theirs, both.t().chunk(len(self.theirs)), strict=True):
                yield name.format(e), part.contiguous()


@dataclass(frozen=True)
class Interleaved:
    """Two maps of each expert whose columns alternate: [E, ..., 2 F], gate, up, gate, up, …

    Ours has all of the gate before all of the other; biases [E, 2 F] lie one after another.

    Attributes:
        theirs: its name.
        experts: how many.
    """

    theirs: str
    experts: int

    def read(self, get: Get) -> Tensor:
        both = get(self.theirs)
        split = torch.cat([both[..., 0::2], both[..., 1::2]], dim=-1)
        return split.flatten() if both.ndim == 2 else split

    def write(self, ours: Tensor) -> Iterator[tuple[str, Tensor]]:
        held = ours.view(self.experts, -1) if ours.ndim == 1 else ours
        yield self.theirs, torch.stack(held.chunk(2, dim=-1), dim=-1).flatten(-2)


@dataclass(frozen=True)
class Flat:
    """Rows of theirs, one after another in ours.

    Attributes:
        theirs: its name.
        rows: how many.
    """

    theirs: str
    rows: int

    def read(self, get: Get) -> Tensor:
        return get(self.theirs).flatten()

    def write(self, ours: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield self.theirs, ours.view(self.rows, -1)


Layout = Same | Stacked | Grouped | Experts | Interleaved | Flat


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
    get = Get(state)
    found: dict[str, Tensor] = {}
    for ours, layout in layouts.items():
        before = len(get.missing)
        try:
            tensor = layout.read(get)
        except RuntimeError as error:
            if len(get.missing) == before:
                raise UserError(f"{ours} has another shape than its config says: {error}") from None
            continue
        found[ours] = tensor
    strange = [name for name in state if name not in get.used and not ignored(name)]
    if get.missing or strange:
        told = [f"{name} is missing" for name in dict.fromkeys(get.missing)] + [
            f"{name} belongs to nothing" for name in strange
        ]
        more = f" and {len(told) - 8} more" if len(told) > 8 else ""
        raise UserError(f"The weights do not fit the config: {'; '.join(told[:8])}{more}.")
    return found


def write_all(layouts: Mapping[str, Layout], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under their names."""
    return {name: tensor for key, layout in layouts.items() for name, tensor in layout.write(ours[key])}
