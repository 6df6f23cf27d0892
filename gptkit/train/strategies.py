"""On which devices a run trains, and how they share the work."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from gptkit.errors import ConfigError, Problem
from gptkit.train.world import World

Config = Mapping[str, Any]
Strategy = Literal["single", "ddp", "fsdp"]
Accelerator = Literal["cpu", "cuda", "mps"]


def accelerator(config: Config) -> Accelerator:
    """The kind of device to train on; `auto` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: the kind that was asked for is not there.
    """
    asked = config["accelerator"]
    if asked == "auto":
        return "cuda" if cuda_devices() else "cpu"
    if asked == "cuda" and not cuda_devices():
        raise ConfigError(
            [Problem("accelerator", "torch sees no CUDA device.", "Take accelerator=cpu or auto.")]
        )
    if asked == "mps":
        import torch

        if not torch.backends.mps.is_available():
            raise ConfigError(
                [Problem("accelerator", "torch sees no MPS device.", "Take accelerator=cpu or auto.")]
            )
    return asked


def processes(config: Config) -> int:
    """How many processes to start on this machine, one a device.

    `devices: auto` takes as many as there are and as share the batch evenly; on a CPU that is one.

    Raises:
        ConfigError: more devices are asked for than there are, or than the strategy can use.
    """
    asked, settings = config["devices"], config["trainer"]
    there = cuda_devices() if accelerator(config) == "cuda" else 1
    if asked != "auto":
        problem = _too_many(config, asked, there)
        if problem:
            raise ConfigError([problem])
        return asked
    if settings["strategy"] == "single":
        return 1
    unit = settings["micro_batch_size"] or 1
    share, nodes = settings["tensor_parallel"], config["nodes"]
    fit = (n for n in range(there, 0, -1) if n * nodes % share == 0)
    return next((n for n in fit if config["data"]["batch_size"] % (n * nodes // share * unit) == 0), 1)


def _too_many(config: Config, asked: int, there: int) -> Problem | None:
    kind = accelerator(config)
    if kind == "cuda" and asked > there:
        return Problem(
            "devices", f"{asked} were asked for; torch sees {there} CUDA device(s).", f"Take {there}."
        )
    if asked * config["nodes"] > 1 and config["trainer"]["strategy"] == "single":
        return Problem(
            "devices", f"trainer.strategy=single trains on one device, not {asked}.", "Take trainer=ddp."
        )
    if kind == "mps" and asked > 1:
        return Problem("devices", f"MPS has one device, not {asked}.", "Take devices=1.")
    return None


def cuda_devices() -> int:
    """How many CUDA devices torch sees; imports torch only where there may be one."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not _may_have_cuda():
        return 0
    import torch

    return torch.cuda.device_count()


def _may_have_cuda() -> bool:
    return os.name == "nt" or any(
        Path(f"/dev/{name}").exists() for name in ("nvidiactl", "dxg", "kfd", "nvhost-gpu")
    )


def strategy(config: Config, world: World) -> Strategy:
    """The strategy, with `auto` decided: one process trains by itself, several take DDP."""
    asked = config["trainer"]["strategy"]
    if world.size == 1:
        return "single"
    return "ddp" if asked == "auto" else asked


def check(config: Config, world: World) -> None:
    """Whether the config and the processes that there are go together.

    Raises:
        ConfigError: they do not; says which key to change.
    """
    settings = config["trainer"]
    asked, problems = config["devices"], []
    if world.size > 1 and settings["strategy"] == "single":
        problems.append(
            Problem(
                "trainer.strategy", f"single, but {world.size} processes were started.", "Take trainer=ddp."
            )
        )
    if asked != "auto" and asked * config["nodes"] != world.size:
        problems.append(
            Problem(
                "devices",
                f"{asked} x nodes={config['nodes']}, but {world.size} process(es) train.",
                "Leave devices=auto under torchrun or srun; else start the run with gptkit train.",
            )
        )
    tensor_parallel = settings["tensor_parallel"]
    if tensor_parallel > 1 and strategy(config, world) != "fsdp":
        problems.append(
            Problem(
                "trainer.tensor_parallel", f"{tensor_parallel} needs several devices.", "Take trainer=fsdp."
            )
        )
    elif world.size % tensor_parallel:
        problems.append(
            Problem("trainer.tensor_parallel", f"{world.size} devices cannot be split by {tensor_parallel}.")
        )
    if problems:
        raise ConfigError(problems)


def make_trainer(config: Config, world: World, callbacks: list[Any]) -> Any:
    """A Lightning trainer that only runs the loop: no logger, progress bar or checkpoints of its own."""
    import lightning.pytorch as pl

    quiet_lightning()
    settings, kind = config["trainer"], accelerator(config)
    return pl.Trainer(
        accelerator="gpu" if kind == "cuda" else kind,
        devices=world.local_size,
        num_nodes=world.nodes,
        strategy=_lightning_strategy(config, world),  # type: ignore[arg-type]
        plugins=[_environment(world)],
        precision="bf16-mixed" if settings["precision"] == "bf16" else "32-true",
        max_epochs=1,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        default_root_dir=os.devnull,
    )


def _lightning_strategy(config: Config, world: World) -> Any:
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy

    chosen = strategy(config, world)
    if chosen == "single":
        kind = accelerator(config)
        return SingleDeviceStrategy(device="cuda:0" if kind == "cuda" else kind)
    if chosen == "ddp":
        return DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    shares = config["trainer"]["tensor_parallel"]
    return ModelParallelStrategy(data_parallel_size=world.size // shares, tensor_parallel_size=shares)


def _environment(world: World) -> Any:
    """Told, not guessed: Lightning would take an interactive SLURM shell for a job of many tasks."""
    from lightning.fabric.plugins import environments

    if world.launcher == "torchrun":
        return environments.TorchElasticEnvironment()  # pyright: ignore[reportPrivateImportUsage]
    if world.launcher == "srun":
        return environments.SLURMEnvironment(auto_requeue=False)  # pyright: ignore[reportPrivateImportUsage]
    return environments.LightningEnvironment()  # pyright: ignore[reportPrivateImportUsage]


def quiet_lightning() -> None:
    """Keep Lightning's notices and tips off the terminal; its warnings speak of what gptkit decides."""
    for name in (
        "lightning.pytorch",
        "lightning.fabric",
        "lightning",
        "torch.distributed.tensor._redistribute",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")


def set_threads(config: Config, world: World) -> int:
    """Give each process of a machine its share of the cores; returns how many threads torch uses."""
    import torch

    threads = config["trainer"]["threads"]
    if threads is None and world.local_size > 1 and "OMP_NUM_THREADS" not in os.environ:
        threads = share_of_cores(world.local_size)
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def share_of_cores(processes: int) -> int:
    """Threads for each of several processes on this machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // processes)
