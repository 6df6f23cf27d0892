"""Validation: the whole split once, shared among the devices, weighted by what each one scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
        n_bytes: UTF-8 bytes of the text that all targets, all tokens but the first, spell.
        context_length: tokens in a window.
        batch_size: windows that a device scores at once.
        batches: how many batches of windows to score, spread evenly over the split; None scores all.
        token_bytes: what a token spells; needed with `batches`.
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
        token_bytes: Callable[[int], bytes] = lambda token: b"",
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        self.tokens, self.n_bytes, self.context_length = tokens, n_bytes, context_length
        self.agreement, self.rank, self.devices = agreement, rank, devices
        starts = np.asarray(evaluation_windows(len(tokens), context_length))
        if batches is not None and batches * batch_size < len(starts):
            starts = starts[np.linspace(0, len(starts) - 1, batches * batch_size).round().astype(np.int64)]
            self.n_bytes = _spelled(tokens, starts, context_length, token_bytes)
        self.parts = [starts[at : at + batch_size] for at in range(0, len(starts), batch_size)]

    def __bool__(self) -> bool:
        """Whether there is anything to score."""
        return bool(self.parts)

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
                nats += total.cpu().double() if counted else 0.0
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
        loss, targets = nats / targets, targets / self.agreement.duplicates
        return Evaluation(loss, loss * targets / math.log(2) / self.n_bytes, round(targets))


def _spelled(tokens: Any, starts: np.ndarray, length: int, token_bytes: Callable[[int], bytes]) -> int:
    """Bytes of the text that the targets of some windows spell."""
    index = (starts[:, None] + np.arange(1, length + 1)).ravel()
    found, counts = np.unique(np.asarray(tokens)[index[index < len(tokens)]], return_counts=True)
    sizes = [len(token_bytes(int(token))) for token in found]
    return int(np.dot(sizes, counts))
