"""What a block computes, read off while it runs: `y = x + attention(norm(x))`.

The block is run without numbers. Its own additions and the parts that it calls are noted, with what
they were given; what is used twice gets a name. So a block of any kind is told as it is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gptkit.model.dry_run import kind_of
from gptkit.model.gpt import GPT

_SAME = {"view", "_unsafe_view", "reshape", "alias", "detach", "clone", "_to_copy", "contiguous", "expand"}
_SIGNS = {"add": "+", "mul": "*", "sub": "-", "div": "/"}
_NAMES = "yzwvutsrq"


@dataclass(eq=False)
class Node:
    """One thing that a block did: `call` of a part, `+`, `*` or another operation."""

    what: str
    given: list[Any]
    uses: int = 0
    name: str = ""


def block_formula(bare: GPT, layer: int) -> tuple[list[str], list[str]]:
    """What one block computes.

    Args:
        bare: the model on the meta device, as `dry_run.bare_copy` gives it.
        layer: which block.

    Returns:
        Its formula, a line for each step, and the names of its parts in the order of their first call; both
        empty where it cannot run without numbers.
    """
    block = bare.blocks[layer]
    tokens = torch.zeros(1, 1, dtype=torch.long, device="meta")
    x = torch.empty(1, 1, bare.shape.d_model, device="meta")
    trace = _Trace(x)
    try:
        with torch.no_grad(), _listening(block, trace), trace:
            out = block(x, bare.step(tokens, None, None, None, None, None))
    except Exception:
        return [], []
    return _told(trace, out), list(dict.fromkeys(trace.called))


class _Trace(TorchDispatchMode):
    """Notes what a block does itself; what happens within its parts is theirs."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.start = Node("x", [], name="x")
        self.made: dict[int, Node] = {id(x): self.start}
        self.alive: list[Any] = [x]  # so that no tensor takes the number of another
        self.called: list[str] = []
        self.inside = 0

    def note(self, result: Any, what: str, given: list[Any]) -> None:
        nodes = [self.made.get(id(g), g) for g in given]
        for node in nodes:
            if isinstance(node, Node):
                node.uses += 1
        self.alive.append(result)
        self.made[id(result)] = Node(what, nodes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = [arg for arg in args if id(arg) in self.made]
        if self.inside or not known or not isinstance(result, Tensor) or id(result) in self.made:
            return result
        what = str(func._overloadpacket.__name__).rstrip("_")
        if what in _SAME:
            self.alive.append(result)
            self.made[id(result)] = self.made[id(known[0])]
        else:
            self.note(result, _SIGNS.get(what, what), list(args))
        return result


@contextmanager
def _listening(block: nn.Module, trace: _Trace) -> Iterator[None]:
    """Within this context, the calls of a block's parts are noted."""
    children = [(name, child) for name, child in block.named_children()]
    for name, child in children:
        vars(child)["forward"] = _heard(name, child, trace)
    try:
        yield
    finally:
        for _, child in children:
            vars(child).pop("forward", None)


def _heard(name: str, child: nn.Module, trace: _Trace) -> Any:
    forward = child.forward
    if isinstance(child, nn.Dropout) and not (child.p and child.training):
        return lambda x: x  # nothing is dropped, so nothing is told
    called = "norm" if kind_of(child) == "norm" else name

    def told(*args: Any, **options: Any) -> Any:
        trace.inside += 1
        try:
            result = forward(*args, **options)
        finally:
            trace.inside -= 1
        if isinstance(result, Tensor) and id(result) not in trace.made:
            trace.note(result, called, [arg for arg in args if id(arg) in trace.made])
            trace.called.append(name)
        return result

    return told


def _told(trace: _Trace, out: Tensor) -> list[str]:
    """The formula, from the first named step to the last."""
    last = trace.made.get(id(out))
    if last is None or last is trace.start:
        return []
    lines: list[str] = []
    names = iter(_NAMES)
    for node in list(dict.fromkeys(trace.made.values())):
        if node is last or node is trace.start or (node.uses > 1 and not node.name):
            if node is trace.start:
                continue
            text = _text(node)
            if node is last:
                return [*lines, f"x = {text}"]
            node.name = next(names, "…")
            lines.append(f"{node.name} = {text}")
    return lines


def _text(node: Any) -> str:
    if not isinstance(node, Node):
        return f"{node:g}" if isinstance(node, (int, float)) else "…"
    if node.name:
        return node.name
    if node.what in "+-*/":
        parts = [_text(given) for given in node.given[:2]]
        if node.what in "*/":
            parts = [f"({p})" if " + " in p or " - " in p else p for p in parts]
        return f" {node.what} ".join(parts)
    return f"{node.what}({', '.join(_text(given) for given in node.given)})"
