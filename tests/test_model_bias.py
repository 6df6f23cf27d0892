"""A bias that depends on distance alone: asked about once, laid out along diagonals, in parts of long texts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gptkit.model.interfaces import DistanceBias, MaskContext, Step
from gptkit.model.kernels import attend
from gptkit.model.masks import Causal


class _Fading(DistanceBias):
    """A bias of each head at each distance, with a slope that is learned."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.linspace(0.1, 0.7, heads, dtype=torch.float64))

    def bias_of(self, distance: Tensor) -> Tensor:
        return (self.slope.view(-1, *[1] * distance.ndim) * distance).sin()


@pytest.mark.parametrize("length", [7, 256, 257, 600])
def test_a_bias_by_distance_is_laid_out_rightly_in_long_texts(length: int) -> None:
    """In parts, along diagonals, with gradients: as eager computes it from the matrix of distances."""
    generator = torch.Generator().manual_seed(length)
    at, causal = torch.arange(length)[None], Causal()
    results = []
    for kernel in ("sdpa", "eager"):
        position = _Fading(4)
        generator.manual_seed(length)
        q, k, v = (
            torch.randn(2, heads, length, 3, dtype=torch.float64, generator=generator).requires_grad_()
            for heads in (4, 2, 2)
        )
        step = Step(at, at, MaskContext(), plain=kernel == "sdpa")
        y = attend(q, k, v, step, position=position, mask=causal, scale=0.5, kernel=kernel)  # type: ignore[arg-type]
        (y * torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)).sum().backward()
        results.append([y, q.grad, k.grad, v.grad, position.slope.grad])
    for found, expected in zip(*results, strict=True):
        assert torch.allclose(found, expected, atol=1e-11, rtol=1e-11)


def test_a_bias_is_asked_about_each_distance_once() -> None:
    asked: list[int] = []

    class Counted(_Fading):
        def bias_of(self, distance: Tensor) -> Tensor:
            asked.append(distance.numel())
            return super().bias_of(distance)

    position, at = Counted(2).requires_grad_(False), torch.arange(50)[None]
    q = torch.randn(1, 2, 50, 4, dtype=torch.float64)
    step = Step(at, at, MaskContext())
    for _ in range(3):  # layers
        attend(q, q, q, step, position=position, mask=Causal(), scale=0.5)
    assert asked == [99]


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_a_bias_by_distance_of_the_last_queries_alone(kernel: str) -> None:
    """As in a cache: the queries given are the last of the keys."""
    position, at = _Fading(2).requires_grad_(False), torch.arange(20)[None]
    q, k = (
        torch.randn(1, 2, 20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(s))
        for s in (1, 2)
    )
    options = {"position": position, "mask": Causal(), "scale": 0.5}
    whole = attend(q, k, k, Step(at, at, MaskContext(), plain=False), kernel="eager", **options)  # type: ignore[arg-type]
    last = attend(q[:, :, 13:], k, k, Step(at[:, 13:], at, MaskContext()), kernel=kernel, **options)  # type: ignore[arg-type]
    assert torch.allclose(last, whole[:, :, 13:], atol=1e-12, rtol=0)
