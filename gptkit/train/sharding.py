"""FSDP2 and tensor parallelism: each device holds a part of each weight."""

from __future__ import annotations

from typing import Any

from torch import nn

from gptkit.errors import ConfigError, Problem

COLUMN, GATHERED, ROW, SLICED = "column", "gathered", "row", "sliced"


def shard(model: nn.Module, mesh: Any) -> nn.Module:
    """Shard a GPT in place over a mesh of `data_parallel` x `tensor_parallel` devices.

    Each block is a unit that is gathered when it is needed; the rest stays together in the root, so
    that a tied embedding and head keep one weight.

    Raises:
        ConfigError: a part cannot be shared by `tensor_parallel` devices.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    tensor_mesh = mesh["tensor_parallel"]
    if tensor_mesh.size() > 1:
        share_layers(model, tensor_mesh)
    for block in model.blocks:  # type: ignore[union-attr]
        fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
    register_fsdp_forward_method(model, "loss")
    return model


def gather_anew(model: nn.Module) -> None:
    """Have weights gathered from the devices' parts at the next forward pass.

    FSDP2 keeps the root's gathered after a forward pass that no backward pass follows, and would go on
    with them though the parts have changed.
    """
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def share_layers(model: nn.Module, mesh: Any) -> None:
    """Split the maps of each block over devices (Shoeybi et al. 2019).

    A part says how in `tensor_parallel`, a dict from the names of its linear maps to one of
    `column` (outputs split, and stay so), `row` (inputs come split, outputs are summed), `gathered`
    (outputs split, then gathered) and `sliced` (whole inputs are cut, outputs are summed).

    Raises:
        ConfigError: a part says nothing, or its sizes cannot be split evenly.
    """
    from torch.distributed.tensor.parallel import parallelize_module

    for index, block in enumerate(model.blocks):  # type: ignore[arg-type]
        for slot in ("attention", "feed_forward"):
            part = getattr(block, slot, None)
            if part is None or next(part.parameters(), None) is None:
                continue
            plan = plan_of(part)
            if plan is None:
                raise ConfigError([_refusal(slot, part, mesh.size())])
            _check_even(f"model.{slot}", index, part, plan, mesh.size())
            parallelize_module(part, mesh, {name: _style(how) for name, how in plan.items()})


def plan_of(part: nn.Module) -> dict[str, str] | None:
    """How a part's linear maps are split, or None if it does not say.

    The core's attention gathers what its devices projected and attends on each; its maps, where most
    weights are, are split.
    """
    from gptkit.model.attention import GroupedQuery, SummedHeads
    from gptkit.model.feed_forward import MLP

    own = getattr(part, "tensor_parallel", None)
    if own is not None:
        return dict(own)
    if isinstance(part, MLP):
        return {"up": COLUMN, "down": ROW}
    if isinstance(part, GroupedQuery):
        return {"qkv": GATHERED, "out": SLICED}
    return {"qk": GATHERED, "value": GATHERED} if isinstance(part, SummedHeads) else None


def _style(how: str) -> Any:
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel

    if how in (COLUMN, GATHERED):
        return ColwiseParallel(output_layouts=Replicate()) if how == GATHERED else ColwiseParallel()
    return RowwiseParallel(input_layouts=Replicate()) if how == SLICED else RowwiseParallel()


def _check_even(slot: str, index: int, part: nn.Module, plan: dict[str, str], devices: int) -> None:
    for name, how in plan.items():
        linear = part.get_submodule(name)
        size = linear.out_features if how in (COLUMN, GATHERED) else linear.in_features
        if size % devices:  # type: ignore[operator]
            message = (
                f"{slot} of layer {index}: {name} has {size} features, which {devices} devices cannot share."
            )
            raise ConfigError([Problem("trainer.tensor_parallel", message)])


def _refusal(slot: str, part: nn.Module, devices: int) -> Problem:
    kind = type(part).__name__
    return Problem(
        "trainer.tensor_parallel",
        f"{devices} devices cannot share model.{slot}: {kind} does not say how its maps are split.",
        f"Take trainer.tensor_parallel=1, or give {kind} a `tensor_parallel` dict such as {{'up': 'column', "
        "'down': 'row'}.",
    )
