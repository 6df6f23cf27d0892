"""Adam along axes that turn with the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SIDES = ("rows", "columns")


class Rotated(torch.optim.Optimizer):
    """SOAP for groups of parameters, each with a `weight_decay`; options as of `gptkit_soap.Soap`.

    State of a parameter: `step`, `average` and `square` of Adam, the square along the axes; for each
    side of a matrix the average `rows` = L or `columns` = R, and its axes, `rows_axes` or `columns_axes`.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float, every: int,
        max_size: int,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps, "every": every, "max_size": max_size}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, _whole(weight.grad), self.state[weight], group)
        return loss

    def _update(self, weight: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Under FSDP each device works on the whole matrix, and takes its part of the step."""
        (b1, b2), lr = group["betas"], group["lr"]
        small = [weight.ndim == 2 and length <= group["max_size"] for length in weight.shape]
        turning = [(axis, side) for axis, side in enumerate(SIDES[: weight.ndim]) if small[axis]]
        if "step" not in state:
            state.update(step=0, average=torch.zeros_like(weight), square=torch.zeros_like(weight))
            for axis, side in turning:
                state[side] = (1 - b2) * products(grad, axis)
                state[f"{side}_axes"] = torch.linalg.eigh(state[side]).eigenvectors.flip(-1).contiguous()
            if turning:
                return
        state["step"] += 1
        axes = {axis: _whole(state[f"{side}_axes"]) for axis, side in turning}
        average = _whole(state["average"]).lerp(grad, 1 - b1)
        square = _whole(state["square"]).lerp(turned(grad, axes).square(), 1 - b2)
        scale = (square / (1 - b2 ** state["step"])).sqrt() + group["eps"]
        step = turned(turned(average, axes) / (1 - b1 ** state["step"]) / scale, axes, back=True)
        weight.mul_(1 - lr * group["weight_decay"]).add_(_placed(step, weight), alpha=-lr)
        for axis, side in turning:
            state[side] = _whole(state[side]).lerp(products(grad, axis), 1 - b2)
            if state["step"] % group["every"] == 0:
                state[f"{side}_axes"], order = followed(state[side], axes[axis])
                square = square.index_select(axis, order)
        state["average"], state["square"] = _placed(average, weight), _placed(square, weight)


def products(grad: Tensor, axis: int) -> Tensor:
    """G G^T for the rows, G^T G for the columns."""
    return grad @ grad.T if axis == 0 else grad.T @ grad


def turned(x: Tensor, axes: dict[int, Tensor], back: bool = False) -> Tensor:
    """Q_L^T x Q_R, or with `back` Q_L x Q_R^T; a side that is not in `axes` stays."""
    if 0 in axes:
        x = (axes[0] if back else axes[0].T) @ x
    if 1 in axes:
        x = x @ (axes[1].T if back else axes[1])
    return x


def followed(average: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    """The axes after one step of orthogonal iteration, and the order in which the old ones stand now.

    The strongest come first: the iteration would turn them there in the end, leaving behind what is
    known of their squares.
    """
    product = average @ axes
    order = (axes * product).sum(0).argsort(descending=True, stable=True)
    # Laid out as a checkpoint gives it back: products of another layout round otherwise.
    return torch.linalg.qr(product.index_select(1, order)).Q.contiguous(), order


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
