"""A forward pass without numbers: what a model multiplies and keeps, counted on the meta device.

Tensors there have shapes and no memory, so a model of any size is counted in a moment, whatever its
parts are: the products are seen as they are asked for, and no part needs to be known by name.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gptkit.model.gpt import GPT
from gptkit.model.interfaces import Attention, Block, Embedding, FeedForward, Head, Norm, PositionalEncoding
from gptkit.model.masks import Full

Place = tuple[int | None, str]  # the layer, None outside of the blocks, and the part
_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("position", (PositionalEncoding,)),
    ("embedding", (Embedding,)),
    ("attention", (Attention,)),
    ("feed_forward", (FeedForward,)),
    ("norm", (Norm, nn.LayerNorm, nn.RMSNorm)),
    ("head", (Head,)),
)
_aten = torch.ops.aten


@dataclass
class Tally:
    """What one pass did.

    Attributes:
        weights: operations with parameters, by place.
        reading: operations of tokens with one another, by place.
        saved: bytes that autograd kept for the backward pass, parameters apart.
        guessed: parts that could not run without numbers; counted as if each token met every weight.
    """

    weights: Counter[Place] = field(default_factory=Counter)
    reading: Counter[Place] = field(default_factory=Counter)
    saved: int = 0
    guessed: set[str] = field(default_factory=set)


def count(model: GPT, tokens: int) -> Tally:
    """The operations of one forward pass over `tokens` tokens, each of which may read all.

    A part that cannot run without numbers, as it routes tokens by their values, offers
    `flops(keys: int) -> float`: its operations for one token that may read so many keys.
    """
    bare = bare_copy(model).eval()
    tally, given = Tally(), torch.zeros(1, tokens, dtype=torch.long, device="meta")
    with torch.no_grad(), _watched(bare, tally, tokens):
        bare(given)
    return tally


def saved_bytes(model: GPT, batch: int, tokens: int) -> int:
    """Bytes that autograd keeps between a training step's forward and backward pass, parameters apart.

    Attention is taken as fused: it keeps its inputs and its output, and no pattern.
    """
    bare = bare_copy(model).train()
    tally, given = Tally(), torch.zeros(batch, tokens, dtype=torch.long, device="meta")
    seen = {_storage(p) for p in bare.parameters()} | {_storage(given)}
    kept: list[Any] = []  # alive, so that no storage takes the place of another

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in seen:
            seen.add(_storage(tensor))
            kept.append(tensor)
            tally.saved += tensor.untyped_storage().nbytes()
        return tensor

    # A loss in chunks keeps nothing, and need not run: what lies before it has been counted by then.
    with suppress(Exception), _watched(bare, tally, tokens), saved_tensors_hooks(pack, lambda tensor: tensor):
        bare.loss(given, given)
    return tally.saved


def bare_copy(model: GPT) -> GPT:
    """The same model on the meta device, whose tokens may all read one another."""
    try:
        bare = _copied(model)
    except Exception:
        if model.config is None:
            raise
        bare = _rebuilt(model)
    for block in bare.blocks:
        attention: Any = block.attention
        vars(attention)["mask"] = Full()  # stands before a mask of its own; all keys are counted
        if getattr(attention, "kernel", None) == "flex":
            attention.kernel = "sdpa"  # the same products; flex wants a real device
    return bare


def _copied(model: GPT) -> GPT:
    """A copy that holds empty tensors; those of a sharded model must not be touched by one process alone."""
    if any(hasattr(parameter, "device_mesh") for parameter in model.parameters()):
        raise TypeError("a sharded model")
    made: dict[int, Any] = {}
    for module in model.modules():
        made[id(module)] = copy.copy(module)
        vars(made[id(module)]).pop("forward", None)  # one that was put in its place belongs to the original
    for tensor in [*model.parameters(), *model.buffers()]:
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        made[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    for module in model.modules():
        held = vars(made[id(module)])
        for name, value in held.items():  # what parts share, they share in the copy
            parts = isinstance(value, list)
            held[name] = [made.get(id(v), v) for v in value] if parts else made.get(id(value), value)
        for group in ("_parameters", "_buffers", "_modules"):
            held[group] = {name: made.get(id(value), value) for name, value in held[group].items()}
    return made[id(model)]


def _rebuilt(model: GPT) -> GPT:
    from gptkit.model.assemble import build

    return build(model.config or {}, vocab_size=model.shape.vocab_size, device="meta")


def place_of(model: nn.Module, name: str) -> Place:
    """Where a parameter or module of a model belongs: its layer, and the part it is of."""
    words = name.split(".")
    layer = int(words[1]) if words[0] == "blocks" and len(words) > 1 else None
    module, part = model, ""
    for word in words:
        module = getattr(module, word, None)
        kind = kind_of(module)
        if kind == "position" or (kind and not part):
            part = kind
    return layer, part or ("block" if layer is not None else words[0])


def kind_of(module: Any) -> str:
    """Which kind of part a module is, or an empty text."""
    return next((kind for kind, classes in _KINDS if isinstance(module, classes)), "")


@contextmanager
def _watched(model: GPT, tally: Tally, tokens: int) -> Iterator[None]:
    """Within this context, what the model multiplies is counted where it belongs."""
    counter = _Counter(tally, model)
    for name, module in model.named_modules():
        if kind_of(module) or isinstance(module, Block):
            vars(module)["forward"] = _Guarded(module, place_of(model, name), counter, model, tokens)
    with counter, _FusedAttention(counter):
        yield


class _Guarded:
    """The forward of a part, counted; one that fails without numbers is counted by its weights."""

    def __init__(self, module: nn.Module, place: Place, counter: _Counter, model: GPT, tokens: int) -> None:
        self.module, self.place, self.counter, self.tokens = module, place, counter, tokens
        self.forward: Callable[..., Any] = module.forward
        self.shape = model.shape

    def __call__(self, *args: Any, **options: Any) -> Any:
        tally, told = self.counter.tally, getattr(self.module, "flops", None)
        tokens = self.tokens * args[0].shape[0]
        if callable(told):
            tally.weights[self.place] += round(tokens * float(told(self.tokens)))  # type: ignore[arg-type]
            return self._like(args[0])
        before = tally.weights.copy(), tally.reading.copy()
        outer, self.counter.place = self.counter.place, self.place
        try:
            return self.forward(*args, **options)
        except Exception:
            tally.weights, tally.reading = before
            met = sum(p.numel() for p in self.module.parameters() if p.ndim > 1)
            tally.weights[self.place] += 2 * tokens * met
            tally.guessed.add(self.place[1])
            return self._like(args[0])
        finally:
            self.counter.place = outer

    def _like(self, given: Tensor) -> Tensor:
        """What the part would return."""
        if isinstance(self.module, Head):
            return given.new_empty(*given.shape[:-1], self.shape.vocab_size)
        if isinstance(self.module, Embedding):
            weight = next(self.module.parameters())
            return weight.new_empty(*given.shape, self.shape.d_model)
        return given.clone()


class _Counter(TorchDispatchMode):
    """Sees each operation as torch carries it out, and counts the products among them."""

    def __init__(self, tally: Tally, model: nn.Module) -> None:
        super().__init__()
        self.tally = tally
        self.place: Place = (None, "model")
        self._fixed = {_storage(p): p for p in [*model.parameters(), *model.buffers()]}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [x for x in args if isinstance(x, Tensor)]
        fixed = [_storage(x) in self._fixed for x in inputs]
        if inputs and all(fixed):  # made from parameters alone: a weight as well
            self._fixed.update({_storage(x): x for x in _tensors(result)})
        operations = self._operations(func._overloadpacket, args, kwargs or {}, result)
        if operations:
            (self.tally.weights if any(fixed) else self.tally.reading)[self.place] += operations
        return result

    def _operations(self, op: Any, args: Any, kwargs: Any, result: Any) -> int:
        if op in (_aten.mv, _aten.dot):
            return 2 * args[0].numel()
        if op is _aten.addmv:
            return 2 * args[1].numel()
        return int(flop_registry[op](*args, **kwargs, out_val=result)) if op in flop_registry else 0


class _FusedAttention(TorchFunctionMode):
    """Takes the place of torch's attention, whose kernel depends on the device."""

    def __init__(self, counter: _Counter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        given = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | (kwargs or {})
        q, k, v = given["query"], given["key"], given["value"]
        operations = 2 * q.shape[:-1].numel() * k.shape[-2] * (k.shape[-1] + v.shape[-1])
        self.counter.tally.reading[self.counter.place] += operations
        return _Fused.apply(q, k, v, given.get("attn_mask"))


class _Fused(torch.autograd.Function):
    """The shapes of fused attention (Dao et al. 2022): it keeps q, k, v, its output and a sum for each row."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:  # type: ignore[override]
        same = q.shape[-1] == v.shape[-1]  # then the kernels keep the layout of q
        out = torch.empty_like(q) if same else q.new_empty(*q.shape[:-1], v.shape[-1])
        sums = q.new_empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, sums, *([] if mask is None else [mask]))
        return out


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [x for x in result if isinstance(x, Tensor)] if isinstance(result, (list, tuple)) else []
