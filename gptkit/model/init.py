"""The first weights: each parameter is drawn from its own seed.

The seed of a parameter is (seed, full name), so two models that differ in one part start equal
everywhere else, whatever the order of construction, the device or the number of processes.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from gptkit.errors import check_options
from gptkit.model.interfaces import Init, ModelShape, Role, roles
from gptkit.registry import register


@register("model.init", "gpt2")
class GPT2Init:
    """Normal(0, std) for matrices; those that write into the residual stream are divided by
    sqrt(2 n_layers) (Radford et al. 2019, section 2.3). Biases are zero, gains one.

    Args:
        std: standard deviation.
        scale_residual: whether the residual maps are made smaller with depth.
    """

    def __init__(self, shape: ModelShape, *, std: float = 0.02, scale_residual: bool = True) -> None:
        check_options("model.init", ("std", std, "a number of at least 0", std >= 0))
        self.std = std
        self.residual_std = std / (2 * max(shape.n_layers, 1)) ** 0.5 if scale_residual else std

    def fill(self, name: str, parameter: Tensor, role: Role, generator: torch.Generator) -> None:
        if role == "norm":
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        elif role == "bias":
            parameter.zero_()
        else:
            parameter.normal_(0.0, self.residual_std if role == "residual" else self.std, generator=generator)


def initialise(model: nn.Module, init: Init, seed: int) -> None:
    """Draw every parameter of a model anew, in place.

    A module may draw its own parameters: one that has `init_parameter(name, tensor, generator)` is
    asked first, and answers whether it filled the tensor.

    Args:
        model: on any device, of any dtype; sharded parameters are each given their part.
        init: the `model.init` part.
        seed: together with a parameter's full name it decides the draw.
    """
    kinds = roles(model)
    for prefix, module in model.named_modules():
        own = getattr(module, "init_parameter", None)
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            drawn = torch.empty(parameter.shape, dtype=torch.float32)
            generator = torch.Generator().manual_seed(seed_of(seed, full))
            if own is None or not own(name, drawn, generator):
                init.fill(full, drawn, kinds[full], generator)
            _assign(parameter, drawn)


def seed_of(seed: int, name: str) -> int:
    """A 63-bit seed for (seed, name), the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1


@torch.no_grad()
def _assign(parameter: Tensor, value: Tensor) -> None:
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None:
        parameter.copy_(value)
        return
    from torch.distributed.tensor import distribute_tensor

    placed = distribute_tensor(value.to(parameter.device, parameter.dtype), mesh, parameter.placements)  # type: ignore[attr-defined]
    parameter.copy_(placed)
