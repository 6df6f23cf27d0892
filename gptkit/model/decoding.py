"""Faster matrix-vector products, for decoding one token at a time on a CPU.

One token means reading every weight once, so memory bandwidth is the limit; BLAS reaches only part
of it for a matrix times a vector, as it runs on one core. Here each map is copied once as slabs
`[cores, in / cores, out]`; a batched product reads them side by side, and the parts are summed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gptkit.model.heads import LanguageModelHead

_SMALLEST = 1 << 16  # weights; below this the products take no time worth saving


@contextmanager
def packed_for_decoding(model: nn.Module) -> Iterator[None]:
    """Within this context, linear maps on the CPU multiply single tokens from packed copies.

    Costs a second copy of the maps while it lasts; longer inputs use the weights themselves. The
    weights must not change meanwhile. A subclass has its own product, so it is left alone; so is a
    module whose forward is replaced already, as by another such context.
    """
    packed: list[Any] = [
        module
        for module in model.modules()
        if type(module) in (nn.Linear, LanguageModelHead) and _worth_it(module)
    ]
    for module in packed:
        vars(module)["forward"] = _Packed(module)  # stands before the class's; removed again below
    try:
        yield
    finally:
        for module in packed:
            vars(module).pop("forward", None)  # another context may have ended first


def _worth_it(module: Any) -> bool:
    weight = module.weight
    if "forward" in vars(module):
        return False
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= _SMALLEST


class _Packed:
    """The forward of one linear map: packed for a single token, as it was for more."""

    def __init__(self, module: nn.Linear | LanguageModelHead) -> None:
        weight = module.weight.detach()
        self.original = module.forward
        self.rows, self.columns = weight.shape  # out, in
        cores = torch.get_num_threads()
        self.cores = cores if self.columns % cores == 0 else 1
        self.slabs = weight.t().contiguous().view(self.cores, -1, self.rows)
        self.bias = module.bias

    def __call__(self, x: Tensor) -> Tensor:
        if x.numel() != self.columns or torch.is_grad_enabled():
            return self.original(x)
        out = torch.bmm(x.reshape(self.cores, 1, -1), self.slabs).sum(0)
        if self.bias is not None:
            out += self.bias
        return out.view(*x.shape[:-1], self.rows)
