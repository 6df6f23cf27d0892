"""Validation: the whole split once, shared among the devices, weighted by what each one scored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gptkit.text.batches import batch, evaluation_windows
from gptkit.train.agreement import Agreement
from gptkit.train.data import Documents
from gptkit.train.objectives import IGNORED, NextToken


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of a text it did not train on.

    Attributes:
        loss: nats for each token.
        bits_per_byte: the same, for each byte of the text, whatever the tokenizer.
        targets: tokens that were scored.
    """

    loss: float
    bits_per_byte: float
    targets: int


class Evaluator:
    """Scores a split; draws no random number, so training does not notice it.

    Args:
        tokens: the split, [N] token numbers.
        n_bytes: UTF-8 bytes of the text that its targets spell.
        context_length: tokens in a window.
        batch_size: windows that a device scores at once.
        batches: windows / batch_size to score, spread evenly over the split; None scores all.
        agreement: adds up what the devices found, and says when to stop.
        rank, devices: this device's number among those that score different windows, and their number.
    """

    def __init__(
        self,
        tokens: Any,
        n_bytes: int,
        context_length: int,
        batch_size: int,
        agreement: Agreement,
        *,
        batches: int | None = None,
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        self.tokens, self.n_bytes, self.context_length = tokens, n_bytes, context_length
        self.agreement, self.rank, self.devices = agreement, rank, devices
        starts = np.asarray(evaluation_windows(len(tokens), context_length))
        self.all_targets = len(tokens) - 1
        if batches is not None and batches * batch_size < len(starts):
            starts = starts[np.linspace(0, len(starts) - 1, batches * batch_size).round().astype(np.int64)]
        self.parts = [starts[at : at + batch_size] for at in range(0, len(starts), batch_size)]

    @torch.no_grad()
    def __call__(self, model: nn.Module, documents: Documents, device: torch.device) -> Evaluation | None:
        """Score the split with a model, in evaluation mode; None if a signal asked to stop meanwhile.

        Every device goes through the same number of batches, since a sharded model is gathered by all
        of them together; one that has none left scores a batch that counts for nothing.
        """
        training, objective = model.training, NextToken()
        model.eval()
        nats, count = torch.zeros((), dtype=torch.float64), 0
        try:
            for inputs, targets in self._batches():
                counted = int((targets != IGNORED).sum())
                total, _ = objective.loss(model, documents.batch(inputs.to(device), targets.to(device)))
                nats += total.double().cpu() if counted else 0.0
                count += counted
                if self.agreement.vote().signal:
                    return None
        finally:
            model.train(training)
        return self._summary(*self.agreement.total([nats.item(), float(count)]))

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(self.parts), self.devices):
            mine = first + self.rank
            inputs, targets = batch(
                self.tokens, self.parts[min(mine, len(self.parts) - 1)], self.context_length
            )
            yield inputs, targets if mine < len(self.parts) else torch.full_like(targets, IGNORED)

    def _summary(self, nats: float, targets: float) -> Evaluation:
        """Bytes are those of the whole text, or the scored tokens' share of them."""
        if not targets:
            return Evaluation(math.nan, math.nan, 0)
        loss, targets = nats / targets, targets / self.agreement.duplicates
        n_bytes = self.n_bytes * targets / self.all_targets
        return Evaluation(loss, loss * targets / math.log(2) / n_bytes, round(targets))
