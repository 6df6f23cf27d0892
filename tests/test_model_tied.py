"""A table that is looked up and read by a tied head: its gradient is the sum, made in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gptkit.model import cross_entropy, tied
from gptkit.model.gpt import GPT
from tiny import close, normal, some_tokens, tiny


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every table is large, and no logits are; the addresses of the heads' gradients."""
    monkeypatch.setattr(tied, "_LARGE", 1)
    monkeypatch.setattr(cross_entropy, "_CPU_CHUNK", 1)
    addresses: list[int] = []
    real = cross_entropy._ChunkedCrossEntropy.backward

    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        found = real(ctx, grad)
        addresses.extend([found[1].data_ptr()] if found[1] is not None else [])
        return found

    monkeypatch.setattr(cross_entropy._ChunkedCrossEntropy, "backward", staticmethod(backward))
    return addresses


def gradients(model: GPT, rows: int = 3) -> dict[str, torch.Tensor]:
    model.zero_grad()
    tokens, targets = some_tokens(rows, 7, 1), some_tokens(rows, 7, 2)
    model.loss(tokens, targets).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("embedding", ["token", "scaled", "normed"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_it_is_the_gradient_of_both_readings(
    embedding: str, is_tied: bool, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(embedding=embedding, head={"name": "language_model", "tied": is_tied})
    ours = gradients(model)
    monkeypatch.setattr(tied, "_LARGE", 10**9)
    for name, theirs in gradients(model).items():
        close(ours[name], theirs)


def test_no_second_tensor_of_its_size_is_made(made: list[int]) -> None:
    model = tiny()
    model.loss(some_tokens(3, 7, 1), some_tokens(3, 7, 2)).backward()
    assert model.embedding.weight.grad is not None
    assert made == [model.embedding.weight.grad.data_ptr()]


def test_gradients_add_up_over_several_losses(made: list[int]) -> None:
    model = tiny()
    once = gradients(model)
    for _ in range(2):
        model.loss(some_tokens(3, 7, 1), some_tokens(3, 7, 2)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        close(parameter.grad, 3 * once[name])


def test_a_head_that_makes_no_gradient_of_its_own_is_left_alone(
    made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Autograd may hand one tensor to two parameters: nothing is added to such a one."""
    model = tiny()
    ours = gradients(model)
    monkeypatch.setattr(cross_entropy, "_CPU_CHUNK", 10**9)
    for name, theirs in gradients(model).items():
        close(ours[name], theirs)


def test_the_table_is_shared_only_while_a_loss_is_made(made: list[int]) -> None:
    table = nn.Parameter(torch.randn(5, 3))
    tied.lookup(torch.tensor([1, 2]), table)
    assert tied.taken(table) is table
    with tied.one_gradient():
        tied.lookup(torch.tensor([1, 2]), table)
        assert tied.taken(table) is not table
        assert tied.taken(table) is table  # one reader has it
        tied.lookup(torch.tensor([1, 2]), table)
    assert tied.taken(table) is table


def test_a_table_whose_rows_lead_nowhere_has_the_other_reading(made: list[int]) -> None:
    model = tiny()
    table, x, targets = model.embedding.weight, normal(21, 16), some_tokens(3, 7, 2).flatten()
    with tied.one_gradient():
        model.hidden(some_tokens(3, 7, 1))
        cross_entropy.linear_cross_entropy(x, table, None, targets).backward()
    ours, table.grad = table.grad, None
    cross_entropy.linear_cross_entropy(x, table, None, targets).backward()
    close(ours, table.grad)


def test_a_table_in_shards_is_looked_up_as_before(tmp_path: Path, made: list[int]) -> None:
    from torch import distributed
    from torch.distributed import device_mesh
    from torch.distributed.tensor import Replicate, distribute_tensor

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = device_mesh.init_device_mesh("cpu", (1,))
        tokens = distribute_tensor(torch.tensor([1, 2]), mesh, [Replicate()])
        table = nn.Parameter(distribute_tensor(torch.randn(5, 3), mesh, [Replicate()]))
        with tied.one_gradient():
            tied.lookup(tokens, table)
            assert tied.taken(table) is table
    finally:
        distributed.destroy_process_group()


def test_a_table_that_is_not_trained_gets_none(made: list[int]) -> None:
    model = tiny()
    model.embedding.weight.requires_grad_(False)
    model.loss(some_tokens(3, 7, 1), some_tokens(3, 7, 2)).backward()
    assert model.embedding.weight.grad is None
