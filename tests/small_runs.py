"""Small runs on a small text, made without the command line."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptkit import run as run_directory
from gptkit.run import Run
from gptkit.train import metrics
from gptkit.train.fit import fit

WORDS = ("the", "king", "and", "queen", "of", "my", "heart", "shall", "not", "be", "a", "lord", "said", "him")


def text(folder: Path, words: int = 700, seed: int = 0) -> Path:
    """A file of words in a random order."""
    path = folder / "text.txt"
    drawn = random.Random(seed).choices(WORDS, k=words)
    path.write_text(" ".join(drawn), "utf-8")
    return path


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    """A whole config; `trainer__max_steps=3` changes a key below the top."""
    path = folder / "text.txt"
    if not path.exists():
        text(folder)
    found = {
        "seed": 3,
        "name": "test",
        "devices": 1,
        "nodes": 1,
        "accelerator": "cpu",
        "run_root": str(folder / "runs"),
        "model": {
            "context_length": 8, "d_model": 16, "n_layers": 2, "n_heads": 2, "dropout": 0.1,
            "block": {"name": "pre", "dropout": 0.1},
        },
        "data": {"name": "text", "path": str(path), "batch_size": 8, "val_fraction": 0.1},
        "tokenizer": {"name": "byte"},
        "objective": {"name": "next_token"},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "schedule": {"name": "constant", "warmup_steps": 3},
        "trainer": {
            "strategy": "auto", "max_steps": 12, "micro_batch_size": None, "precision": "32", "gradient_clip": 1.0,
            "eval_every": 5, "eval_batches": 3, "log_every": 2, "checkpoint_every": 100, "keep_checkpoints": 2,
            "sample_every": None, "sample_tokens": 0, "sample_prompt": "the", "compile": False, "threads": 1,
            "tensor_parallel": 1,
        },
        "logger": {},
        "callback": {},
    }  # fmt: skip
    for key, value in changes.items():
        *above, last = key.split("__")
        node: Any = found
        for part in above:
            node = node[part]
        node[last] = value
    return found


def make(folder: Path, **changes: Any) -> Run:
    """A new run, not yet trained."""
    return run_directory.create(config(folder, **changes))


def trained(folder: Path, **changes: Any) -> Run:
    """A new run, trained to its end in this process."""
    run = make(folder, **changes)
    fit(run)
    return run


def change(run: Run, **changes: Any) -> Run:
    """Write other values into a run's config, as resuming with overrides does."""
    found = run.config()
    for key, value in changes.items():
        *above, last = key.split("__")
        node: Any = found
        for part in above:
            node = node[part]
        node[last] = value
    run.write_json("config.json", found)
    return Run(run.path)


def tensors(run: Run, step: int | None = None) -> dict[str, Tensor]:
    """All tensors of a checkpoint, weights and optimizer."""
    groups = run.checkpoints.load(step).tensors
    return {f"{group}/{name}": value for group, held in groups.items() for name, value in held.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether they are bitwise the same."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def rows(run: Run) -> list[dict[str, Any]]:
    return metrics.read(run.path / "metrics.jsonl")


def wait_for(what: Any, seconds: float = 60.0) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it never did.
    """
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError("it did not come about")
        time.sleep(0.05)
