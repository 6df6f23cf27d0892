"""One run as one process sees it: the parts, the data, its share of the work. Nothing is trained yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import nn

from gptkit import registry
from gptkit.errors import PositionRangeError
from gptkit.model.assemble import build
from gptkit.schema import part_options
from gptkit.text.batches import BatchOrder
from gptkit.train import strategies
from gptkit.train.agreement import Agreement
from gptkit.train.callbacks import Callback
from gptkit.train.data import Share, StepBatches
from gptkit.train.evaluate import Evaluator
from gptkit.train.sharding import shard
from gptkit.train.world import World

if TYPE_CHECKING:
    from gptkit.run import Run
    from gptkit.text.shards import Dataset


@dataclass
class Job:
    """What is trained, on what, for how long, and which part of it is this process's.

    Attributes:
        run: where it is kept.
        config: the whole normalised config.
        dataset: tokens and their tokenizer.
        world: the processes.
        agreement: what they settle together.
        share: which examples are this device's.
        callbacks: the run's, built, by name.
    """

    run: Run
    config: Mapping[str, Any]
    dataset: Dataset
    world: World
    agreement: Agreement
    share: Share
    callbacks: dict[str, Callback]

    @classmethod
    def of(
        cls,
        run: Run,
        config: Mapping[str, Any],
        dataset: Dataset,
        world: World,
        signal: Callable[[], int],
    ) -> Job:
        """The job of this process.

        Args:
            run: where it is kept.
            config: the run's, completed.
            dataset: what `prepare` made of it.
            world: the processes.
            signal: gives the signal that this process received, or 0.

        Raises:
            ConfigError: the batch cannot be shared, or a callback refuses its options.
        """
        duplicates = config["trainer"]["tensor_parallel"]
        share = Share.of(
            config["data"]["batch_size"],
            config["trainer"]["micro_batch_size"],
            world.rank // duplicates,
            world.size // duplicates,
        )
        callbacks = {
            name: registry.load("callback", name)(**options) for name, options in config["callback"].items()
        }
        return cls(run, config, dataset, world, Agreement(signal, duplicates), share, callbacks)

    @property
    def max_steps(self) -> int:
        return self.config["trainer"]["max_steps"]

    @property
    def context_length(self) -> int:
        return self.config["model"]["context_length"]

    @property
    def reach(self) -> int:
        """Tokens that the model reads of one example in training."""
        return self.dataset.splits["train"].reach(self.context_length)

    def part(self, slot: str) -> Any:
        """The part that stands in a slot, built from its options."""
        node = self.config[slot]
        return registry.load(slot, node["name"])(**part_options(slot, node))

    def make_model(self, mesh: Any) -> nn.Module:
        """The model: whole, or sharded over Lightning's device mesh; compiled if asked."""
        fresh = not self.run.checkpoints.steps()
        vocabulary = self.dataset.tokenizer.vocab_size
        model: Any = build(self.config, vocab_size=vocabulary, initialise_weights=fresh)
        sharded = strategies.strategy(self.config, self.world) == "fsdp"
        if self.config["trainer"]["compile"]:
            compile_model(model, by_block=sharded)
        return shard(model, mesh) if sharded else model

    def make_batches(self, first: int) -> StepBatches:
        """The batches of the updates from `first` on."""
        split = self.dataset.splits["train"]
        order = BatchOrder.of(
            split, self.context_length, self.config["data"]["batch_size"], self.config["seed"]
        )
        pin = strategies.accelerator(self.config) == "cuda"
        return StepBatches(split, order, self.share, order.context_length, first, self.max_steps, pin=pin)

    @cached_property
    def evaluators(self) -> dict[str, Evaluator]:
        """What scores the splits that are validated on, by name; `val` first, if there is text for it."""
        made = {
            name: Evaluator(
                split,
                self.context_length,
                self.share.micro,
                self.agreement,
                batches=self.config["trainer"]["eval_batches"],
                token_bytes=self.dataset.tokenizer.token_bytes,
                rank=self.share.rank,
                devices=self.share.devices,
            )
            for name, split in self.dataset.splits.items()
            if name != "train"
        }
        return {name: made[name] for name in sorted(made, key=lambda n: n != "val") if made[name]}

    def refuse_unreadable(self, model: Any) -> dict[str, str]:
        """Leave out the splits whose examples are longer than a model can read; returns why, by name."""
        refused = {}
        for name, evaluator in list(self.evaluators.items()):
            why = unreadable(model, evaluator.length)
            if why:
                refused[name] = why
                del self.evaluators[name]
        return refused


def unreadable(model: Any, length: int) -> str | None:
    """Why a model cannot read `length` tokens; None if it can."""
    try:
        model.position.require(length - 1)
    except PositionRangeError as error:
        return " ".join(str(error).split())
    return None


def compile_model(model: Any, *, by_block: bool) -> None:
    """Have `torch.compile` fuse a GPT's loss, or each block where weights are gathered in between."""
    import torch

    if by_block:
        for block in model.blocks:
            block.compile()
    else:
        model.loss = torch.compile(model.loss)
