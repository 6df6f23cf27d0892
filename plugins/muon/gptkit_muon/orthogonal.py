"""The optimizer of the matrices: momentum, made orthogonal, and a step along it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steep at 0, so that weak directions grow fast (Jordan et al. 2024)
EPS = 1e-7


class Orthogonal(torch.optim.Optimizer):
    """Muon for parameters that are all matrices; options as of `gptkit_muon.Muon`."""

    def __init__(
        self, matrices: Iterable[Tensor], *, lr: float, momentum: float, nesterov: bool, iterations: int,
        scale: str, weight_decay: float, bf16: bool | None,
    ) -> None:  # fmt: skip
        rates = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        how = {"nesterov": nesterov, "iterations": iterations, "scale": scale, "bf16": bf16}
        super().__init__(matrices, {**rates, **how})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, group)
        return loss

    def _update(self, matrix: Tensor, group: dict[str, Any]) -> None:
        state, grad, momentum = self.state[matrix], matrix.grad, group["momentum"]
        assert grad is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        state["momentum"].lerp_(grad, 1 - momentum)
        direction = grad.lerp(state["momentum"], momentum) if group["nesterov"] else state["momentum"]
        whole = _whole(direction)  # where it is sharded, each device works it out
        in_bf16 = whole.is_cuda if group["bf16"] is None else group["bf16"]
        step = orthogonal(whole.bfloat16() if in_bf16 else whole, group["iterations"]).to(matrix.dtype)
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(
            _placed(step, matrix), alpha=-group["lr"] * size(matrix.shape[0], matrix.shape[1], group["scale"])
        )


def orthogonal(matrix: Tensor, iterations: int) -> Tensor:
    """U p(S) V^T of `matrix` = U S V^T, where p brings all of S to 0.7 .. 1.2, roughly.

    X = aX + b(XX^T)X + c(XX^T)^2 X, from X = matrix / |matrix|, which needs no decomposition.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=EPS)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def size(rows: int, columns: int, scale: str) -> float:
    """The factor on a step of an R x C matrix, whose own root mean square is 1 / sqrt(max(R, C))."""
    return 0.2 * max(rows, columns) ** 0.5 if scale == "adamw" else max(1.0, rows / columns) ** 0.5


def _whole(tensor: Tensor) -> Tensor:
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def _placed(value: Tensor, like: Tensor) -> Tensor:
    """`value` cut up as `like` is, if `like` is sharded over devices."""
    mesh = getattr(like, "device_mesh", None)
    if mesh is None:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]
