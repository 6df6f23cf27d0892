"""Validation: each split once, shared among the devices, weighted by what each one scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.text.batches import batch, evaluation_windows, spelled
from gptkit.text.splits import Split
from gptkit.train.agreement import Agreement
from gptkit.train.data import Documents
from gptkit.train.objectives import IGNORED, Batch, NextToken


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of a text it did not train on.

    Attributes:
        loss: nats for each token.
        bits_per_byte: the same, for each byte of the text, whatever the tokenizer.
        targets: tokens that were scored.
        accuracy: the share of answers of which every token was the likeliest, as greedy decoding would
            give them; None for running text.
        token_accuracy: the share of the answers' tokens that were, each after the right ones before it.
    """

    loss: float
    bits_per_byte: float
    targets: int
    accuracy: float | None = None
    token_accuracy: float | None = None

    def metrics(self, split: str) -> dict[str, float]:
        """The measures under their names in `metrics.jsonl`, such as `val_loss`."""
        told = {
            "loss": self.loss,
            "bits_per_byte": self.bits_per_byte,
            "accuracy": self.accuracy,
            "token_accuracy": self.token_accuracy,
        }
        return {f"{split}_{name}": value for name, value in told.items() if value is not None}


class Evaluator:
    """Scores a split; draws no random number, so training does not notice it.

    Args:
        split: what is scored.
        context_length: tokens in a window of running text.
        batch_size: windows that a device scores at once.
        batches: how many batches of windows to score, spread evenly over the split; None scores all.
        token_bytes: what a token spells; needed with `batches`.
        agreement: adds up what the devices found, and says when to stop.
        rank, devices: this device's number among those that score different windows, and their number.
    """

    def __init__(
        self,
        split: Split,
        context_length: int,
        batch_size: int,
        agreement: Agreement,
        *,
        batches: int | None = None,
        token_bytes: Callable[[int], bytes] = lambda token: b"",
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        self.split, self.n_bytes, self.length = split, split.n_bytes, split.reach(context_length)
        self.agreement, self.rank, self.devices = agreement, rank, devices
        starts = evaluation_windows(split, context_length)
        if batches is not None and batches * batch_size < len(starts):
            starts = starts[np.linspace(0, len(starts) - 1, batches * batch_size).round().astype(np.int64)]
            self.n_bytes = spelled(split, starts, self.length, token_bytes)
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
        training, score = model.training, _nats if self.split.scored is None else _answers
        model.eval()
        sums = np.zeros(5)
        try:
            for inputs, targets in self._batches():
                found = score(model, documents.batch(inputs.to(device), targets.to(device)))
                if (targets != IGNORED).any():
                    sums[: len(found)] += found
                if self.agreement.vote().signal:
                    return None
        finally:
            model.train(training)
        return self._summary(*self.agreement.total(sums.tolist()))

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(self.parts), self.devices):
            mine = first + self.rank
            inputs, targets = batch(self.split, self.parts[min(mine, len(self.parts) - 1)], self.length)
            yield inputs, targets if mine < len(self.parts) else torch.full_like(targets, IGNORED)

    def _summary(self, nats: float, targets: float, right: float, answers: float, whole: float) -> Evaluation:
        loss, scored = nats / targets, targets / self.agreement.duplicates
        bits = loss * scored / math.log(2) / self.n_bytes
        if not answers:
            return Evaluation(loss, bits, round(scored))
        return Evaluation(loss, bits, round(scored), whole / answers, right / targets)


def _nats(model: nn.Module, given: Batch) -> list[float]:
    """Nats and targets of running text."""
    total, count = NextToken().loss(model, given)
    return [total.double().item(), float(count)]


def _answers(model: nn.Module, given: Batch) -> list[float]:
    """Nats, targets, those that were likeliest, answers, those that were so as a whole."""
    logits = model(given.tokens, documents=given.documents).float()
    nats = F.cross_entropy(
        logits.flatten(0, 1), given.targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    counts = given.targets != IGNORED
    right = (logits.argmax(-1) == given.targets) & counts
    whole = counts.any(-1) & (right | ~counts).all(-1)
    found = nats.double().sum(), counts.sum(), right.sum(), counts.any(-1).sum(), whole.sum()
    return [float(number) for number in found]
