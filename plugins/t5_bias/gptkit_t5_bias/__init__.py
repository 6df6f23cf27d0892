"""T5's relative positions: a learned bias for each head and each bucket of distances."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gptkit.errors import UserError
from gptkit.model.interfaces import DistanceBias, ModelShape
from gptkit.registry import register


@register("model.position", "t5")
class T5Bias(DistanceBias):
    """score + b[head, bucket(distance)], one table for all layers (Raffel et al. 2020, section 2.1).

    Half of the buckets hold a distance each; the others grow logarithmically up to `max_distance`, and
    what is farther shares the last one. Keys that come later are told apart only with `bidirectional`.

    Args:
        n_buckets: how many biases a head learns.
        max_distance: from here on all distances are one.
        bidirectional: half of the buckets are for keys that come later (T5's encoder).
    """

    def __init__(
        self, shape: ModelShape, *, n_buckets: int = 32, max_distance: int = 128, bidirectional: bool = False
    ) -> None:
        super().__init__()
        least = 4 if bidirectional else 2
        if n_buckets < least or n_buckets % least or max_distance <= n_buckets // least:
            raise UserError(
                f"t5: n_buckets={n_buckets} and max_distance={max_distance}; it needs a multiple of {least} buckets, "
                f"and a distance above {n_buckets // least}, from where buckets grow."
            )
        self.n_buckets, self.max_distance, self.bidirectional = n_buckets, max_distance, bidirectional
        self.weight = nn.Parameter(torch.zeros(n_buckets, shape.n_heads))

    def bias_of(self, distance: Tensor) -> Tensor:
        return self.weight[self.bucket_of(distance)].movedim(-1, 0)

    def bucket_of(self, distance: Tensor) -> Tensor:
        """The bucket of each distance `query - key`: whole numbers of the same shape."""
        count = self.n_buckets // 2 if self.bidirectional else self.n_buckets
        first = (distance < 0).long() * count if self.bidirectional else torch.zeros_like(distance)
        far = distance.abs() if self.bidirectional else distance.clamp(min=0)
        exact = count // 2
        grown = torch.log(far.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        large = (exact + (grown * (count - exact)).long()).clamp(max=count - 1)
        return first + torch.where(far < exact, far, large)
