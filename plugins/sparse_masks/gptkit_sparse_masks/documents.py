"""Prefixes where several documents are packed into one row."""

from __future__ import annotations

from torch import Tensor

from gptkit.errors import check_options
from gptkit.model.interfaces import Mask, MaskContext
from gptkit.registry import register


@register("model.mask", "document_prefix")
class DocumentPrefix(Mask):
    """Within a document, its first tokens read one another freely (PrefixLM: Raffel et al. 2020).

    q reads k where both are of one document and (k <= q or k is among its first `prefix` tokens). Stands
    in place of `causal`, not beside it: both together are causal within documents. Where no documents
    are told, a row is one.

    Args:
        length: tokens of the prefix where a batch does not tell its own.
    """

    allows_self = True

    def __init__(self, *, length: int = 0) -> None:
        super().__init__()
        check_options("model.mask", ("length", length, "a whole number of at least 0", length >= 0))
        self.length = length

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        length = self.length if context.prefix is None else context.prefix
        places = k_positions if context.k_places is None else context.k_places
        allowed = (k_positions <= q_positions) | (places < length)
        if context.q_documents is None or context.k_documents is None:
            return allowed
        return allowed & (context.q_documents == context.k_documents)

    def causal_in(self, context: MaskContext) -> bool:
        return context.q_documents is None and context.prefix is None and self.length <= 0
