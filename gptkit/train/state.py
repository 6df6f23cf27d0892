"""A model's weights, and what optimizer and callbacks keep of them, as whole tensors under any strategy.

A checkpoint holds whole tensors under the names of the plain model, so a run that was sharded over
devices goes on in one process, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gptkit.errors import CheckpointError

if TYPE_CHECKING:
    from gptkit.train.callbacks import Callback

Tensors = dict[str, Tensor]
MODEL, OPTIMIZER, CALLBACK = "model", "optimizer", "callback"


def gather(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    keep: bool,
    callbacks: Mapping[str, Callback] | None = None,
) -> dict[str, Tensors]:
    """The tensors of a checkpoint; every process takes part, those that `keep` get them.

    Returns:
        `{"model": {name: tensor}, "optimizer": {"exp_avg/name": tensor}}`, on the CPU; and, where
        callbacks by name keep tensors, `{"callback": {"ema/average/name": tensor}}`.
    """
    groups: dict[str, Tensors] = {MODEL: {}, OPTIMIZER: {}}
    for name, tensor in model.state_dict().items():
        _collect(groups[MODEL], name, tensor, keep)
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                _collect(groups[OPTIMIZER], f"{key}/{name}", value, keep)
        for owner, callback in (callbacks or {}).items():
            for key, value in callback.state.get(parameter, {}).items():
                _collect(groups.setdefault(CALLBACK, {}), f"{owner}/{key}/{name}", value, keep)
    return groups


def numbers(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer keeps of a parameter that is no tensor: `{"key/name": number}`."""
    return {
        f"{key}/{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, (bool, int, float, str))
    }


@torch.no_grad()
def restore(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    groups: dict[str, Tensors],
    plain: dict[str, Any],
    callbacks: Mapping[str, Callback] | None = None,
) -> None:
    """Put a checkpoint's tensors back, each process taking its part.

    Raises:
        CheckpointError: the tensors are not those of this model.
    """
    restore_model(model, groups[MODEL])
    names = {parameter: name for name, parameter in model.named_parameters()}
    ordered = [p for group in optimizer.param_groups for p in group["params"]]
    kept: dict[str, dict[str, Any]] = {}
    for full, value in (*groups.get(OPTIMIZER, {}).items(), *plain.items()):
        key, name = full.split("/", 1)
        kept.setdefault(name, {})[key] = value
    state = {
        index: {key: _placed(value, p) if isinstance(value, Tensor) else value for key, value in mine.items()}
        for index, p in enumerate(ordered)
        if (mine := kept.get(names[p]))
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for owner, callback in (callbacks or {}).items():
        _restore_callback(model, callback, groups.get(CALLBACK, {}), f"{owner}/")


@torch.no_grad()
def restore_model(model: nn.Module, tensors: Tensors) -> None:
    """Put weights and buffers back.

    Raises:
        CheckpointError: names or shapes differ; says which.
    """
    own = model.state_dict()
    wrong = list(_differences(own, tensors))
    if wrong:
        listed = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise CheckpointError(f"The checkpoint's weights do not fit the model: {listed}.")
    for name, tensor in own.items():
        tensor.copy_(_placed(tensors[name], tensor))


def _restore_callback(model: nn.Module, callback: Callback, tensors: Tensors, prefix: str) -> None:
    kept: dict[nn.Parameter, Tensors] = {}
    for full, value in tensors.items():
        if full.startswith(prefix):
            key, name = full.removeprefix(prefix).split("/", 1)
            parameter = model.get_parameter(name)
            kept.setdefault(parameter, {})[key] = _placed(value.to(parameter.device), parameter)
    if kept:
        callback.state = kept


def _differences(own: Tensors, given: Tensors) -> Iterator[str]:
    for name in sorted(own.keys() | given.keys()):
        if name not in given:
            yield f"{name} is missing"
        elif name not in own:
            yield f"{name} belongs to no part of the model"
        elif own[name].shape != given[name].shape:
            yield f"{name} is {tuple(given[name].shape)}, the model's is {tuple(own[name].shape)}"


def _collect(into: Tensors, name: str, tensor: Tensor, keep: bool) -> None:
    full = getattr(tensor, "full_tensor", None)
    whole = tensor if full is None else full()
    if keep:
        into[name] = whole.detach().to("cpu").contiguous()


def _placed(value: Tensor, like: Tensor) -> Tensor:
    """`value` cut up and placed as `like` is, if `like` is sharded and they have one shape."""
    mesh = getattr(like, "device_mesh", None)
    if mesh is None or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]
