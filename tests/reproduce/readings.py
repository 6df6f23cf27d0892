"""What is read off trained models beyond what every comparison measures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import gptkit
from gptkit.compare.measure import Reading, longer
from gptkit.compare.results import Results, Trained
from gptkit.compare.series import number
from gptkit.run import TOKENIZER
from gptkit.text.shards import prepare
from reproduce.judging import Scores


def stretched(results: Results, label: str, factor: int) -> dict[str, Scores]:
    """Loss at `factor` times the context of trained rotary models, as they are and with stretched frequencies."""
    kinds: dict[str, dict[str, Any]] = {
        "rotary": {},
        "rotary_linear": {"factor": float(factor)},
        "rotary_ntk": {"factor": float(factor)},
        "rotary_yarn": {"factor": float(factor)},
    }
    found: dict[str, dict[int, float]] = {kind: {} for kind in kinds}
    for seed, run in results.finished(label).items():
        trained, data = gptkit.load(run.path).eval(), _data(run)
        context = trained.shape.context_length
        for kind, options in kinds.items():
            config = {**run.config, "model": {**run.config["model"], "position": {"name": kind, **options}}}
            model = gptkit.build(config)
            model.load_state_dict(trained.state_dict())
            (row,) = longer(Reading(model.eval(), data), [factor * context], [float(factor)])
            found[kind][seed] = number(row.get("non_overlapping"))
    return {kind: {s: v for s, v in held.items() if math.isfinite(v)} for kind, held in found.items()}


def bigrams(results: Results, label: str) -> tuple[Scores, Scores]:
    """The loss of models on their whole training text, in windows, and the entropy of its bigrams, by seed."""
    reached, floor = {}, {}
    for seed, run in results.finished(label).items():
        model, tokens = gptkit.load(run.path).eval(), _data(run).train.astype(np.int64)
        context, size = model.shape.context_length, model.shape.vocab_size
        windows = (len(tokens) - 1) // context
        inputs = tokens[: windows * context].reshape(windows, context)
        targets = tokens[1 : windows * context + 1].reshape(windows, context)
        counts = np.bincount(inputs.ravel() * size + targets.ravel(), minlength=size * size)
        counts = counts.reshape(size, size)
        reached[seed] = _loss(model, torch.from_numpy(inputs), torch.from_numpy(targets))
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        floor[seed] = float(-(counts[counts > 0] * np.log(share[counts > 0])).sum() / counts.sum())
    return reached, floor


@torch.no_grad()
def _loss(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Mean nats of each target, both [W, T]."""
    total = 0.0
    for x, y in zip(inputs.split(512), targets.split(512), strict=True):
        nats = F.cross_entropy(model(x).float().flatten(0, 1), y.flatten(), reduction="none")
        total += float(nats.double().sum())
    return total / targets.numel()


def _data(run: Trained) -> Any:
    return prepare(run.config, run.path / TOKENIZER)
