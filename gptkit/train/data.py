"""Which examples each device reads at each step: a function of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gptkit.errors import ConfigError, Problem
from gptkit.model.interfaces import Mask, MaskContext
from gptkit.model.masks import dense
from gptkit.text.batches import BatchOrder, batch
from gptkit.text.splits import Split
from gptkit.train.objectives import Batch


@dataclass(frozen=True)
class Share:
    """How the examples of one optimizer step are cut up.

    A step's examples stand in one order, whoever reads them. They are cut into `accumulation x devices`
    slots of `micro` examples; device `rank` takes slots `rank`, `devices + rank`, and so on.

    Attributes:
        micro: examples that a device holds at once.
        accumulation: micro-batches that a device reads before each update.
        rank: this device's number among those that read different examples.
        devices: how many such devices there are.
    """

    micro: int
    accumulation: int
    rank: int = 0
    devices: int = 1

    @classmethod
    def of(cls, batch_size: int, micro: int | None, rank: int = 0, devices: int = 1) -> Share:
        """The share of one device.

        Args:
            batch_size: examples of a step, over all devices.
            micro: examples that a device holds at once; None takes its whole share.

        Raises:
            ConfigError: the examples cannot be shared evenly.
        """
        unit = devices * (micro or 1)
        if batch_size % unit:
            size = f" x micro_batch_size={micro}" if micro else ""
            raise ConfigError(
                [
                    Problem(
                        "data.batch_size",
                        f"{batch_size} examples cannot be shared evenly by {devices} device(s){size}.",
                        f"Take a multiple of {unit}, such as {max(1, round(batch_size / unit)) * unit}.",
                    )
                ]
            )
        micro = micro or batch_size // devices
        return cls(micro, batch_size // (devices * micro), rank, devices)

    def slot(self, index: int) -> int:
        """The place in the whole step of this device's micro-batch number `index`."""
        return index * self.devices + self.rank


class StepBatch(NamedTuple):
    """What one device reads for one update.

    Attributes:
        step: the update's number, counted from 0.
        tokens: [A, B, T], a row of micro-batches.
        targets: [A, B, T].
    """

    step: int
    tokens: Tensor
    targets: Tensor


class StepBatches:
    """The batches of updates `first` up to but not `last`, for one device.

    Args:
        split: what is trained on.
        order: gives the first token of each example of a step.
        share: which examples are this device's.
        context_length: tokens in an example.
        first, last: the updates to read for.
        pin: put batches where a GPU can fetch them without waiting.
    """

    def __init__(
        self,
        split: Split,
        order: BatchOrder,
        share: Share,
        context_length: int,
        first: int,
        last: int,
        *,
        pin: bool = False,
    ) -> None:
        self.split, self.order, self.share = split, order, share
        self.context_length, self.first, self.last, self.pin = context_length, first, last, pin

    def __len__(self) -> int:
        return max(0, self.last - self.first)

    def __iter__(self) -> Iterator[StepBatch]:
        for step in range(self.first, self.last):
            yield self.at(step)

    def at(self, step: int) -> StepBatch:
        """The batch of one update."""
        share = self.share
        starts = self.order.starts(step).reshape(share.accumulation, share.devices, share.micro)
        read = batch(self.split, starts[:, share.rank].reshape(-1), self.context_length)
        tokens, targets = (part.view(share.accumulation, share.micro, -1) for part in read)
        if self.pin:
            tokens, targets = tokens.pin_memory(), targets.pin_memory()
        return StepBatch(step, tokens, targets)


class Documents:
    """Tells which document each token of a row belongs to, if the model has a mask that asks.

    Args:
        model: looked through for masks.
        end_of_text: the token that ends a document, if the tokenizer has one.
    """

    def __init__(self, model: nn.Module, end_of_text: int | None) -> None:
        self.end = end_of_text if end_of_text is not None and _reads_documents(model) else None

    def batch(self, tokens: Tensor, targets: Tensor) -> Batch:
        """A micro-batch [B, T] with its documents; the end-of-text token belongs to what it ends."""
        if self.end is None:
            return Batch(tokens, targets)
        ends = tokens == self.end
        return Batch(tokens, targets, ends.cumsum(-1) - ends.long())


def _reads_documents(model: nn.Module) -> bool:
    """Whether two neighbours, known to stand in different documents, may read each other less."""
    at = torch.arange(2).unsqueeze(0)
    known = MaskContext(q_documents=at, k_documents=at)
    masks = [module for module in model.modules() if isinstance(module, Mask)]
    return any(not torch.equal(dense(m, at, at, known), dense(m, at, at, MaskContext())) for m in masks)
