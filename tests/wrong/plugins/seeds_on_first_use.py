"""A norm that seeds a generator when it is first built; later ones find it done."""

import random

from torch import Tensor

from gptkit.model.interfaces import Norm
from gptkit.registry import register


@register("model.norm", "seeds_on_first_use")
class SeedsOnFirstUse(Norm):
    """No norm."""

    seeded = False

    def __init__(self, width: int) -> None:
        super().__init__()
        if not SeedsOnFirstUse.seeded:
            random.seed(1)
            SeedsOnFirstUse.seeded = True

    def forward(self, x: Tensor) -> Tensor:
        return x
