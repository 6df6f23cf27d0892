"""A sweep with made-up numbers that look like real ones, for tests of reports."""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path
from typing import Any

from gptkit.compare.results import Point, Results, Trained

LABELS = ("sinusoidal", "learned", "none", "rotary", "alibi")
LAST = {"sinusoidal": 1.846, "learned": 1.849, "none": 1.871, "rotary": 1.802, "alibi": 1.817}
SPEED = {"sinusoidal": 1.0, "learned": 1.01, "none": 1.02, "rotary": 0.83, "alibi": 0.97}
FACTORS = (0.25, 0.5, 1, 2, 4)
STEPS, TOKENS_A_STEP, CONTEXT = 1000, 2048, 64


def demo(folder: Path, labels: tuple[str, ...] = LABELS, seeds: int = 5, key: str = "position") -> Results:
    """Every label with every seed; the third seed of `none` died, and `learned` refuses longer texts."""
    points = [
        Point(0, {key: label}, seed, [f"{key}={label}", f"seed={seed}"])
        for seed in range(1, seeds + 1)
        for label in labels
    ]
    command = [f"{key}={','.join(labels)}", f"seed={','.join(str(s + 1) for s in range(seeds))}"]
    sweep = {
        "format": 1, "command": command, "varied": [key], "metric": None, "baseline": None, "budget": {"kind": "tokens", "value": 2.048e6},
        "lengths": list(FACTORS), "versions": {"gptkit": "0.1.0", "python": "3.11.9", "torch": "2.10.0", "lightning": "2.6.6"},
        "git": {"commit": "4f1c0de5" * 5, "dirty": False}, "created": "2026-01-31T14:25:01+00:00",
    }  # fmt: skip
    runs = [
        run(folder, Point(number, p.variant, p.seed, p.overrides), key) for number, p in enumerate(points)
    ]
    return Results(folder, [key], command, runs, sweep)


def run(folder: Path, point: Point, key: str = "position") -> Trained:
    """One of them."""
    label, seed = point.label, point.seed
    path = folder / "jobs" / f"{point.number:03d}"
    config = {
        "seed": seed,
        "model": {key: {"name": label}, "context_length": CONTEXT},
        "tokenizer": {"name": "char"},
    }
    if label == "none" and seed == 3:
        error = 'Traceback (most recent call last):\n  File "worker.py", line 41, in fit\n    loss.backward()\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 512 MiB'
        return Trained(point, path, "failed", {"status": "failed"}, config=config, error=error)
    draw = random.Random(f"{label} {seed}")
    last = LAST.get(label, 1.85) + random.Random(seed).gauss(0, 0.012) + draw.gauss(0, 0.004)
    rate = 9200 * SPEED.get(label, 1.0) * (1 + draw.gauss(0, 0.02))
    rows: list[dict[str, Any]] = []
    for step in range(0, STEPS + 1, 50):
        tokens = step * TOKENS_A_STEP
        loss = last + 2.35 * math.exp(-step / 90) + 0.35 * (math.exp(-step / 420) - math.exp(-STEPS / 420))
        rows.append(
            {
                "step": step,
                "tokens": tokens,
                "seconds": tokens / rate,
                "loss": loss - 0.03,
                "val_loss": loss + draw.gauss(0, 0.004),
            }
        )
    rows[-1]["val_loss"] = last
    parameters = 813_568 + (8192 if label == "learned" else 0)
    tokens, flops = STEPS * TOKENS_A_STEP, 5.31e6 * (1.004 if label == "rotary" else 1)
    result = {
        "status": "finished", "run": path.name, "seed": seed, "steps": STEPS, "tokens": tokens, "seconds": tokens / rate, "tokens_per_second": rate,
        "parameters": parameters, "flops": flops * tokens, "train_loss": last - 0.03, "val_loss": last, "val_bits_per_byte": last / math.log(2), "best_val_loss": last,
    }  # fmt: skip
    return Trained(
        point, path, "finished", result, rows, measures(label, seed, last, rate, parameters, flops), config
    )


def measures(
    label: str, seed: int, last: float, rate: float, parameters: int, flops: float
) -> dict[str, Any]:
    """What would stand in its measures.json."""
    worse = {
        "sinusoidal": (0.85, 1.9),
        "none": (0.35, 0.9),
        "rotary": (0.5, 1.35),
        "alibi": (-0.02, -0.03),
    }.get(label, (0.3, 0.8))
    lengths: list[dict[str, Any]] = []
    for factor in FACTORS:
        if label == "learned" and factor > 1:
            lengths.append(
                {
                    "factor": factor,
                    "tokens": int(CONTEXT * factor),
                    "refused": f"Learned positions end at {CONTEXT - 1}; position {int(CONTEXT * factor) - 1} was asked for.",
                }
            )
            continue
        more = worse[int(factor) // 2 - 1] if factor > 1 else 0.16 * (1 / factor - 1) / 3
        lengths.append(
            {
                "factor": factor,
                "tokens": int(CONTEXT * factor),
                "non_overlapping": last + more,
                "sliding": last + more - 0.07,
                "early": last + 0.35 + 0.3 * max(0, more),
                "non_overlapping_tokens": 4096,
                "sliding_tokens": 4096,
                "early_tokens": 4096 // max(1, int(4 * factor)),
            }
        )
    edges = [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]
    losses = [last - 0.05 + 1.5 / (1 + edge) ** (0.95 if label != "none" else 0.8) for edge in edges]
    far = [0, 1, 2, 4, 8, 16, 32]
    decay = {"alibi": 0.12, "rotary": 0.05, "none": 0.01}.get(label, 0.025)
    return {
        "proof": {"batches": digest("batches", seed), "evaluation": digest("evaluation"), "tokenizer": digest("char"), "weights": {"embedding.token.weight": f"65x64 {digest('w', seed)}"}},
        "loss_by_position": {"positions": edges, "loss": losses, "count": [400] * len(edges)},
        "lengths": lengths,
        "attention_by_distance": {"distances": far, "layers": [[0.3 * (layer + 1) / 4 * math.exp(-decay * (5 - layer) * d) / (1 + d) ** 0.5 + 0.002 for d in far] for layer in range(4)]},
        "cost": {"milliseconds_per_step": 1e3 * TOKENS_A_STEP / rate, "tokens_per_second": rate, "peak_bytes": 412_000_000, "decode_tokens_per_second": 780 * SPEED.get(label, 1), "cache_bytes_per_token": 2048, "parameters": parameters, "flops_per_token": flops},
    }  # fmt: skip


def digest(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()
