"""The gradient as a whole: its norm, and scaling it, whether or not its parts are sharded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The gradients that there are."""
    return [p.grad for p in parameters if p.grad is not None]


def global_norm(grads: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients as one vector, a scalar, the same on every device.

    Gradients that are sharded in different ways (FSDP2 alone, or with tensor parallelism) are
    summed within each way first.
    """
    if not grads:
        return torch.zeros(())
    ways: dict[Any, list[Tensor]] = defaultdict(list)
    for grad in grads:
        ways[_sharding(grad)].append(grad)
    norms = [_whole(torch.nn.utils.get_total_norm(group)) for group in ways.values()]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


def scale(grads: Sequence[Tensor], factor: float) -> None:
    """Multiply every gradient in place."""
    ways: dict[Any, list[Tensor]] = defaultdict(list)
    for grad in grads:
        ways[_sharding(grad), grad.dtype].append(grad)
    for group in ways.values():
        torch._foreach_mul_(group, factor)  # pyright: ignore[reportPrivateImportUsage]


def clip_factor(norm: float, largest: float | None) -> float:
    """What brings a norm down to `largest`; 1 if it is no larger (Pascanu et al. 2013)."""
    return 1.0 if largest is None else min(1.0, largest / (norm + 1e-6))


def _sharding(tensor: Tensor) -> Any:
    mesh = getattr(tensor, "device_mesh", None)
    return None if mesh is None else (mesh, getattr(tensor, "placements", None))


def _whole(norm: Tensor) -> Tensor:
    full = getattr(norm, "full_tensor", None)
    return norm if full is None else full()
