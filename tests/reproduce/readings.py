"""What is read off trained models beyond what every comparison measures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

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
    """The exact loss of zero-layer models on their training text, and the entropy of its bigrams, by seed."""
    reached, floor = {}, {}
    for seed, run in results.finished(label).items():
        model, tokens = gptkit.load(run.path).eval().double(), _data(run).train.astype(np.int64)
        size = model.shape.vocab_size
        counts = np.bincount(tokens[:-1] * size + tokens[1:], minlength=size * size).reshape(size, size)
        with torch.no_grad():
            nats = -model(torch.arange(size)[:, None])[:, 0].log_softmax(-1).numpy()
        total = counts.sum()
        reached[seed] = float((counts * nats).sum() / total)
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        floor[seed] = float(-(counts[counts > 0] * np.log(share[counts > 0])).sum() / total)
    return reached, floor


def _data(run: Trained) -> Any:
    return prepare(run.config, run.path / TOKENIZER)
