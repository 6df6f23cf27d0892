"""What the training loss is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor

from gptkit.registry import register

IGNORED = -100


class Batch(NamedTuple):
    """What one device sees at once.

    Attributes:
        tokens: [B, T].
        targets: [B, T], the token after each; -100 counts for nothing.
        documents: [B, T], the number of the document each token belongs to, where a mask asks for it.
    """

    tokens: Tensor
    targets: Tensor
    documents: Tensor | None = None


class Objective(ABC):
    """Built as `Objective(*, options)`."""

    @abstractmethod
    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sum of the losses of a batch, and how many there are.

        Sum and count, not a mean: the gradient of a step is the gradient of the mean over all the
        micro-batches of all devices, however the step was cut up.

        Returns:
            Two scalars; the first carries gradients.
        """


@register("objective", "next_token")
class NextToken(Objective):
    """Cross-entropy of each next token, in nats: -log p(x_{t+1} | x_1 ... x_t) (Radford et al. 2018)."""

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        total = model.loss(batch.tokens, batch.targets, documents=batch.documents, reduction="sum")
        return total, (batch.targets != IGNORED).sum()
