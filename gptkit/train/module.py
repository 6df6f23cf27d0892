"""One optimizer step, as Lightning runs it.

A Lightning batch is a whole optimizer step: Lightning's own work per batch (about 0.3 ms) is then
paid once a step, however many micro-batches the step is cut into.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from gptkit.errors import GptkitError
from gptkit.model.interfaces import Adjusting
from gptkit.train.agreement import Agreement
from gptkit.train.data import Documents, Share, StepBatch
from gptkit.train.gradients import clip_factor, global_norm, gradients, scale
from gptkit.train.meter import StepOutcome
from gptkit.train.objectives import Objective
from gptkit.train.rng import seed_micro_batch
from gptkit.train.schedules import Schedule


class NonFiniteError(GptkitError):
    """The loss or the gradient is no longer a finite number; the weights were not touched."""


class TrainingModule(pl.LightningModule):
    """Trains a model; Lightning brings the device, the precision and the strategy.

    Args:
        make_model: builds the model in `configure_model`, sharded if the strategy shards.
        make_optimizer: builds the optimizer, once the model is where it will be trained.
        make_batches: the batches from a given update on.
        objective: the loss.
        schedule: the learning rate.
        share: which examples are this device's.
        seed: the run's.
        max_steps: the update to stop before.
        gradient_clip: the largest norm of the gradient, or None.
        agreement: what processes settle together.
        end_of_text: the token that ends a document, if there is one.
    """

    def __init__(
        self,
        make_model: Callable[[Any], nn.Module],
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        make_batches: Callable[[int], Iterable[StepBatch]],
        objective: Objective,
        schedule: Schedule,
        *,
        share: Share,
        seed: int,
        max_steps: int,
        gradient_clip: float | None,
        agreement: Agreement,
        end_of_text: int | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.make_model, self.make_optimizer, self.make_batches = make_model, make_optimizer, make_batches
        self.objective, self.schedule, self.share, self.seed = objective, schedule, share, seed
        self.max_steps, self.gradient_clip, self.agreement = max_steps, gradient_clip, agreement
        self.end_of_text = end_of_text
        self.model: nn.Module | None = None
        self.adjusting: list[Adjusting] = []
        self.first_step = 0
        self.outcome: StepOutcome | None = None
        self.on_non_finite: Callable[[int], None] = lambda step: None

    def configure_model(self) -> None:
        """Build the model, once the process group stands."""
        if self.model is None:
            self.model = self.make_model(getattr(self, "_device_mesh", None))
            self.documents = Documents(self.model, self.end_of_text)
            self.adjusting = [part for part in self.model.modules() if isinstance(part, Adjusting)]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer; each group's own learning rate is what the schedule scales."""
        optimizer = self.make_optimizer(self.model)  # type: ignore[arg-type]
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return optimizer

    def train_dataloader(self) -> Iterable[StepBatch]:
        """The batches that are left."""
        return self.make_batches(self.first_step)

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """Gradients of all micro-batches, then one update; leaves `outcome`."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        expected = batch.targets.numel() * self.share.devices
        total, count = self._gradients(batch, expected)
        grads = gradients(p for group in optimizer.param_groups for p in group["params"])
        measured = torch.stack([_wide(total), _wide(count), _wide(global_norm(grads))]).tolist()
        ballot = self.agreement.vote(loss=measured[0], targets=measured[1], gradient_norm=measured[2])
        correction = expected / ballot.targets if ballot.targets else math.inf
        loss, norm = ballot.loss / max(1.0, ballot.targets), measured[2] * correction
        if not (math.isfinite(loss) and ballot.finite and math.isfinite(norm)):
            optimizer.zero_grad(set_to_none=True)
            self.on_non_finite(batch.step)
            raise NonFiniteError(_advice(batch.step, loss, norm))
        factor = clip_factor(norm, self.gradient_clip) * correction
        if factor != 1.0:
            scale(grads, factor)
        rate = self._set_rate(optimizer, batch.step)
        optimizer.step()
        for part in self.adjusting:
            part.after_update()
        optimizer.zero_grad(set_to_none=True)
        self.outcome = StepOutcome(batch.step + 1, loss, expected, norm, rate, ballot)

    def _gradients(self, batch: StepBatch, expected: int) -> tuple[Tensor, Tensor]:
        """Add up the gradients of this device's micro-batches; returns the loss's sum and count.

        DDP and FSDP average over devices, so each sum is weighted by devices / expected targets. Where
        fewer count, the whole gradient is corrected once, after every device has told its count.
        """
        weight = self.share.devices / expected
        totals, counts = [], []
        last = self.share.accumulation - 1
        for index in range(self.share.accumulation):
            seed_micro_batch(self.seed, batch.step, self.share.slot(index), self.device)
            micro = self.documents.batch(batch.tokens[index], batch.targets[index])
            with self._sync(index == last):
                total, count = self.objective.loss(self.model, micro)
                with self._backward_precision():
                    self.manual_backward(total * weight)
            totals.append(total.detach())
            counts.append(count)
        if last == 0:
            return totals[0], counts[0]
        return _wide(torch.stack(totals)).sum(), torch.stack(counts).sum()

    def _sync(self, now: bool) -> AbstractContextManager[Any]:
        """DDP sums gradients over devices with the last micro-batch only."""
        no_sync = getattr(self.trainer.model, "no_sync", None)
        return nullcontext() if now or no_sync is None else no_sync()

    def _backward_precision(self) -> AbstractContextManager[Any]:
        """Autocast is for the forward pass; the backward pass repeats its types by itself."""
        device = self.device.type
        return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()

    def _set_rate(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        factor = self.schedule.factor(step, self.max_steps)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return optimizer.param_groups[0]["lr"]


def _wide(tensor: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def _advice(step: int, loss: float, norm: float) -> str:
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
    return (
        f"Step {step + 1}: {what}. The weights are as step {step} left them, and were saved. "
        "Try a smaller optimizer.lr, a longer schedule.warmup_steps or a smaller trainer.gradient_clip; "
        "with trainer.precision=bf16, try 32."
    )
