"""What the parts of a model are built from, and what one forward pass carries to them.

Shapes as in `gptkit.model.interfaces`, where these names stand too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class ModelShape:
    """The sizes that every part is built from.

    Attributes:
        layer: the layer that a part is built for, counted from 0; 0 for a part that serves them all.
    """

    vocab_size: int
    context_length: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_ff: int
    layer: int = 0


@dataclass
class MaskContext:
    """What a mask may ask about, beside positions.

    A mask sees these already shaped to broadcast against `[B, T, S]`, or as single elements inside
    FlexAttention, so it only compares them.

    Attributes:
        k_padding: true where a key is padding, [B, S].
        q_documents: the number of the document that a query token belongs to, [B, T].
        k_documents: the same for keys, [B, S].
        k_places: how far a key stands behind the first token of its document, [B, S].
        prefix: how many first tokens may read one another freely, [B].
    """

    k_padding: Tensor | None = None
    q_documents: Tensor | None = None
    k_documents: Tensor | None = None
    prefix: Tensor | None = None
    k_places: Tensor | None = None


def places_in_documents(documents: Tensor, positions: Tensor) -> Tensor:
    """How far each token stands behind the first one of its document.

    Args:
        documents: [1|B, S], the number of the document that each token belongs to; one stands in a piece.
        positions: [1|B, S]; they may run on through a row or start anew.

    Returns:
        [B, S].
    """
    documents, positions = torch.broadcast_tensors(documents, positions)
    at = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    firsts = torch.where(begins, at, 0).cummax(-1).values
    return positions - positions.gather(-1, firsts)


@dataclass
class Step:
    """One forward pass, as attention sees it.

    Attributes:
        q_positions: the places of the tokens given now, [1|B, T].
        k_positions: the places of all tokens that may be read, [1|B, S].
        context: documents, padding and prefixes, for the mask.
        cache: this layer's cache, as its attention made it, to which it adds this step's tokens; or None.
        tokens: the numbers of the tokens given now, [B, T].
        plain: keys stand in order, the queries are the last of them, and none is padding.
        patterns: a list to which each attention appends its pattern [B, H, T, S]; None records none.
        memo: results that layers share within this pass, such as dense masks and biases.
    """

    q_positions: Tensor
    k_positions: Tensor
    context: MaskContext = field(default_factory=MaskContext)
    cache: Any = None
    tokens: Tensor | None = None
    plain: bool = True
    patterns: list[Tensor] | None = None
    memo: dict[Any, Any] = field(default_factory=dict)


class LayerCache(Protocol):
    """What one layer keeps of the tokens already read, so that they need not be read again.

    An attention that keeps something else than keys and values gives a cache of its own, and reads and
    writes it itself; the model asks of any cache only what follows.
    """

    @property
    def bytes(self) -> int:
        """Memory that the tokens held take."""
        ...

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens; raises `UserError` where that cannot be done."""
        ...

    def slide(self, keep: int) -> None:
        """Forget all but the last `keep` tokens; one of a recurrent attention keeps what it has."""
        ...
