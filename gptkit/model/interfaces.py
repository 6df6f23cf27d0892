"""What each part of a GPT promises to the others.

Shapes: `B` batch, `T` query tokens, `S` key tokens (cached ones and these), `H` heads, `Hkv` heads
of keys and values, `D` d_model, `Dh` width of a head, `V` vocabulary. Every part is an `nn.Module`;
the arguments before `*` come from the builder, those after it are its options.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from gptkit.errors import PositionRangeError
from gptkit.model.step import LayerCache, MaskContext, ModelShape, Step

M = TypeVar("M", bound=nn.Module)
Role = Literal["embedding", "weight", "residual", "bias", "norm"]


class PositionalEncoding(nn.Module):
    """Tells a model where its tokens stand, at up to three places; each default is the identity.

    Attributes:
        max_positions: the number of positions it can tell, or None where there is no end.
        is_relative: whether only distances matter, so that a window may slide over a cache.
    """

    max_positions: int | None = None
    is_relative: bool = False

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add position to token vectors.

        Args:
            x: [B, T, D].
            positions: [1|B, T], whole numbers from 0.

        Returns:
            [B, T, D].
        """
        return x

    def rotate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        """Turn queries and keys by their positions, before they enter the cache.

        Args:
            q: [B, H, T, Dh].
            k: [B, Hkv, T, Dh], the keys of this step's own tokens.
            q_positions: [1|B, T].
            k_positions: [1|B, T].
        """
        return q, k

    def score_bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor | None:
        """A bias [1|B, 1|H, T, S] that is added to the scores before the softmax, or None.

        Args:
            q: [B, H, T, Dh].
            k: [B, Hkv, S, Dh].
            q_positions: [1|B, T].
            k_positions: [1|B, S].
        """
        return None

    def require(self, last_position: int) -> None:
        """Check that `last_position` can be told.

        Raises:
            PositionRangeError: it lies past `max_positions`.
        """
        if self.max_positions is not None and last_position >= self.max_positions:
            raise PositionRangeError(
                f"{type(self).__name__} positions end at {self.max_positions - 1}; position {last_position} was "
                f"asked for. Give at most {self.max_positions} tokens, or choose a position encoding without "
                "an end, such as model/position=sinusoidal."
            )


class DistanceBias(PositionalEncoding):
    """A score bias that depends on the distance alone.

    A part gives `bias_of`; the dense bias, the row for cached decoding and FlexAttention's
    `score_mod` follow from it.
    """

    is_relative = True

    def bias_of(self, distance: Tensor) -> Tensor:
        """The bias of each head at each distance `query - key` (negative where the key is later).

        Args:
            distance: any shape `[...]`, whole numbers.

        Returns:
            [H, ...], floating point.
        """
        raise NotImplementedError

    def score_bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        distance = q_positions.unsqueeze(-1) - k_positions.unsqueeze(-2)  # [1|B, T, S]
        return self.bias_of(distance).transpose(0, 1).to(q.dtype)  # [1|B, H, T, S]


class Mask(nn.Module):
    """Who may read whom. Masks compose with `&`, `|` and `~`.

    Attributes:
        is_causal: it allows exactly the keys at or before the query, so the fast path serves.
        allows_self: every query may read itself, so that no row is empty.
        has_end: it knows so many positions and no more, and refuses the others.
    """

    is_causal: bool = False
    allows_self: bool = False
    has_end: bool = False

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        """True where a query may read a key.

        Elementwise: the arguments broadcast against [B, T, S], or are single elements.

        Args:
            q_positions: such as [1, T, 1].
            k_positions: such as [1, 1, S].
            context: documents, padding and prefixes, shaped likewise.
        """
        raise NotImplementedError

    def applies(self, context: MaskContext) -> bool:
        """Whether it forbids anything, given what the context holds."""
        return True

    def causal_in(self, context: MaskContext) -> bool:
        """Whether it comes down to the causal mask, given what the context holds."""
        return self.is_causal

    def __and__(self, other: Mask) -> Mask:
        from gptkit.model.masks import AllOf

        return AllOf([self, other])

    def __or__(self, other: Mask) -> Mask:
        from gptkit.model.masks import AnyOf

        return AnyOf([self, other])

    def __invert__(self) -> Mask:
        from gptkit.model.masks import Not

        return Not(self)


class Attention(nn.Module):
    """How tokens read one another. Built as `Attention(shape, position, mask, *, options)`.

    The position encoding and the mask are shared between layers; a layer that differs owns its own
    (see `own`). Attention holds its projections, the choice of kernel and the state of its cache.

    Attributes:
        is_recurrent: what it keeps of a text does not grow, so it has no context to slide out of: it
            reads all that came before, however long.
    """

    is_recurrent: bool = False
    position: PositionalEncoding
    mask: Mask

    def __init__(self, shape: ModelShape, position: PositionalEncoding, mask: Mask) -> None:
        super().__init__()
        self.shape = shape
        self.__dict__["position"] = position  # shared: the GPT registers it, once
        self.__dict__["mask"] = mask

    def own(self, name: str) -> None:
        """Register the position encoding or the mask as this layer's own."""
        setattr(self, name, self.__dict__.pop(name))

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """[B, T, D] -> [B, T, D], what is added to the residual stream."""
        raise NotImplementedError

    def new_cache(
        self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype, slack: int = 1
    ) -> LayerCache:
        """An empty cache for `capacity` tokens of `batch` rows, in `slack` times the memory."""
        raise NotImplementedError


class Embedding(nn.Module):
    """How a token becomes a vector. Built as `Embedding(shape, position, *, options)`.

    Attributes:
        weight: [V, D]; a tied head reads it.
    """

    weight: nn.Parameter

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """[B, T] token numbers and [1|B, T] positions -> [B, T, D]."""
        raise NotImplementedError


class Block(nn.Module):
    """Where norms and residual sums stand. Built as `Block(attention, feed_forward, make_norm, *, options)`.

    Attributes:
        needs_final_norm: the stream leaves the last block unnormalised, so the GPT adds a norm.
        streams: how many residual streams run through the blocks side by side; all blocks of a model
            have as many.
    """

    needs_final_norm: bool = True
    streams: int = 1
    attention: Attention
    feed_forward: FeedForward

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """[B, T, D] -> [B, T, D]; where there are several streams, as `enter` made them."""
        raise NotImplementedError

    def enter(self, x: Tensor) -> Tensor:
        """What the first block is given: the embedded tokens [B, T, D], or several streams of them."""
        return x

    def leave(self, x: Tensor) -> Tensor:
        """What the last block's result is to the norm and the head: [B, T, D]."""
        return x


class Head(nn.Module):
    """How a vector becomes a score for each token. Built as `Head(shape, embedding, *, options)`."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> logits [..., V]."""
        raise NotImplementedError

    def loss(self, x: Tensor, targets: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
        """Cross-entropy in nats of [..., D] against [...] token numbers; -100 counts for nothing.

        A GPT gives [B, T, D] and [B, T], so that a head may look along a row.
        """
        raise NotImplementedError


class Init(Protocol):
    """The distribution that each parameter starts from. Built as `Init(shape, *, options)`."""

    def fill(self, name: str, parameter: Tensor, role: Role, generator: torch.Generator) -> None:
        """Overwrite a float32 tensor on the CPU, drawing only from `generator`."""
        ...


class Norm(nn.Module):
    """Normalises the last axis. Built as `Norm(width, *, options)`."""

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class FeedForward(nn.Module):
    """A network applied to each token alone. Built as `FeedForward(shape, *, options)`.

    One that learns by more than the loss of the tokens, as a mixture of experts may, is a `Penalised`
    or an `Adjusting` part; any other part of a model may be one too.

    Attributes:
        absent: there is none; the block leaves it out, its norm as well.
    """

    absent: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        raise NotImplementedError


@runtime_checkable
class Penalised(Protocol):
    """A part that wants something beside a low loss, such as experts that are used equally."""

    def take_penalty(self) -> Tensor | None:
        """What the last forward pass in training adds to the mean loss of a token, as a scalar with
        gradients; asked once a pass, by `GPT.loss`: an objective that takes the loss of the logits itself
        leaves it out. Only its gradient is used: the loss that is told stays the loss."""
        ...


@runtime_checkable
class Adjusting(Protocol):
    """A part that changes something by rule after each update, beside what gradients change."""

    def after_update(self) -> None:
        """Called once after each optimizer step, on every process; what it changes is a buffer."""
        ...


class MakeNorm(Protocol):
    """Builds one more norm of the chosen kind, of a given width."""

    def __call__(self, width: int) -> nn.Module: ...


def mark(module: M, role: Role) -> M:
    """Say what a module's `weight` is, where its shape does not: `residual` for the map that writes
    back into the residual stream. Returns the module."""
    module.gptkit_role = role  # type: ignore[assignment]
    return module


def roles(model: nn.Module) -> dict[str, Role]:
    """What each parameter of a model is, by full name: for initialisation and weight decay."""
    found: dict[str, Role] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            if isinstance(module, (Norm, nn.LayerNorm, nn.RMSNorm)):
                found[full] = "norm"
            elif parameter.ndim < 2:
                found[full] = "bias"
            elif isinstance(module, nn.Embedding):
                found[full] = "embedding"
            else:
                found[full] = getattr(module, "gptkit_role", "weight")
    return found


def float_positions(positions: Tensor) -> Tensor:
    """Positions as exact floating point numbers for formulas; 16 bits would already err at 257."""
    return positions.to(torch.float32 if positions.device.type == "mps" else torch.float64)
