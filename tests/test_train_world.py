"""Which process this is, on how many devices it trains, and what does not go together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gptkit.errors import ConfigError
from gptkit.train import strategies
from gptkit.train.sharding import plan_of
from gptkit.train.world import World
from steps import config
from tiny import tiny

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_NODES": "2",
}  # fmt: skip


def test_the_launcher_tells_who_this_is() -> None:
    assert World.of(TORCHRUN) == World(3, 4, 1, 2, "torchrun")
    assert World.of(SRUN) == World(2, 4, 0, 2, "srun")
    assert World.of(SRUN).nodes == 2
    assert World.of({}) == World()
    assert (
        World.of({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == World()
    )  # a batch script, not a task of srun
    assert World.of(TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"}) == World()


def asking(devices: Any = "auto", nodes: int = 1, batch: int = 12, **trainer: Any) -> dict[str, Any]:
    given = config(micro_batch_size=None, **trainer) | {"devices": devices, "nodes": nodes}
    return given | {"data": {"batch_size": batch}, "accelerator": "auto"}


@pytest.mark.parametrize(
    ("there", "batch", "trainer", "taken"),
    [
        (0, 12, {}, 1),
        (1, 12, {}, 1),
        (8, 12, {}, 6),
        (8, 16, {}, 8),
        (8, 7, {}, 7),
        (8, 12, {"strategy": "single"}, 1),
        (8, 16, {"strategy": "fsdp", "tensor_parallel": 2}, 8),
        (7, 12, {"strategy": "fsdp", "tensor_parallel": 2}, 6),
    ],
)
def test_auto_takes_as_many_as_share_the_batch(monkeypatch, there, batch, trainer, taken) -> None:
    monkeypatch.setattr(strategies, "cuda_devices", lambda: there)
    assert strategies.processes(asking(batch=batch, **trainer)) == taken


def test_more_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "cuda_devices", lambda: 2)
    with pytest.raises(ConfigError, match="devices: 3 were asked for; torch sees 2"):
        strategies.processes(asking(devices=3))
    with pytest.raises(ConfigError, match=r"devices: .*strategy=single"):
        strategies.processes(asking(devices=2, strategy="single"))
    assert strategies.processes(asking(devices=3) | {"accelerator": "cpu"}) == 3


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "cuda_devices", lambda: 0)
    with pytest.raises(ConfigError, match="accelerator: torch sees no CUDA"):
        strategies.accelerator(asking() | {"accelerator": "cuda"})
    assert strategies.accelerator(asking()) == "cpu"


@pytest.mark.parametrize(
    ("given", "world", "key"),
    [
        (asking(strategy="single"), World(0, 2, 0, 2, "torchrun"), "trainer.strategy"),
        (asking(devices=4), World(0, 2, 0, 2, "torchrun"), "devices"),
        (asking(strategy="ddp", tensor_parallel=2), World(0, 2, 0, 2, "torchrun"), "trainer.tensor_parallel"),
        (
            asking(strategy="fsdp", tensor_parallel=2),
            World(0, 3, 0, 3, "torchrun"),
            "trainer.tensor_parallel",
        ),
        (asking(strategy="fsdp", tensor_parallel=2), World(), "trainer.tensor_parallel"),
    ],
)
def test_processes_and_config_that_do_not_fit_are_refused(given, world: World, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        strategies.check(given, world)
    assert caught.value.problems[0].key == key


def test_auto_is_decided_by_the_number_of_processes() -> None:
    assert strategies.strategy(asking(), World()) == "single"
    assert strategies.strategy(asking(), World(0, 2, 0, 2)) == "ddp"
    assert strategies.strategy(asking(strategy="fsdp"), World(0, 2, 0, 2)) == "fsdp"
    assert strategies.strategy(asking(strategy="fsdp"), World()) == "single"


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    before = torch.get_num_threads()
    try:
        assert strategies.set_threads(asking(), World()) == before
        assert strategies.set_threads(asking(), World(0, 2, 0, 2)) == 4
        assert strategies.set_threads(asking(threads=3), World(0, 2, 0, 2)) == 3
        assert strategies.share_of_cores(16) == 1
    finally:
        torch.set_num_threads(before)


def test_every_core_part_says_how_devices_share_it_and_another_is_asked_to() -> None:
    model = tiny()
    assert plan_of(model.blocks[0].attention) == {"qkv": "gathered", "out": "sliced"}
    assert plan_of(model.blocks[0].feed_forward) == {"up": "column", "down": "row"}
    assert plan_of(torch.nn.Linear(2, 2)) is None
    own = torch.nn.Linear(2, 2)
    own.tensor_parallel = {"up": "column"}  # type: ignore[assignment]
    assert plan_of(own) == {"up": "column"}
