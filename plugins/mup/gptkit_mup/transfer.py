"""The best learning rate by width, in the standard parametrisation and in muP.

Run as `PYTHONPATH=plugins/mup python -m gptkit_mup.transfer --widths 64 128 256 512`. The task is a
fixed random chain: each token follows from the two before it, with some noise.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

from gptkit import registry
from gptkit.model.assemble import build
from gptkit.model.gpt import GPT

BASE, VOCAB, LENGTH, STD = 64, 32, 32, 0.1
RATES = [2.0**-k for k in range(11, 3, -1)]


def batch(step: int, rows: int = 8) -> Tensor:
    """Rows of the chain, [B, T + 1], the same for every model."""
    rules = torch.randint(0, VOCAB, (VOCAB, VOCAB), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(step + 1)
    noise = torch.randint(0, VOCAB, (rows, LENGTH + 1), generator=generator)
    loud = torch.rand(rows, LENGTH + 1, generator=generator) < 0.1
    tokens = noise.clone()
    for t in range(2, LENGTH + 1):
        tokens[:, t] = torch.where(loud[:, t], noise[:, t], rules[tokens[:, t - 2] % 4, tokens[:, t - 1]])
    return tokens


def model_of(width: int, mup: bool, seed: int = 0) -> GPT:
    """Two layers and four heads at any width; at the base width both kinds are the same model."""
    ratio = width / BASE
    sizes = {"context_length": LENGTH, "d_model": width, "n_layers": 2, "n_heads": 4}
    head: dict[str, Any] = {"name": "language_model", "tied": False}
    attention: dict[str, Any] = {"name": "multi_head"}
    init: dict[str, Any] = {"name": "gpt2", "std": STD / ratio**0.5}
    if mup:
        head = {"name": "mup", "tied": False, "base_width": BASE}
        attention["scale"] = (BASE / 4) ** 0.5 / (width / 4)  # as 1 / d_head, equal at the base
        init = {"name": "mup", "base_width": BASE, "std": STD, "zero_head": False}
    parts = {"head": head, "attention": attention, "init": init}
    return build({"model": {**sizes, **parts}, "seed": seed}, vocab_size=VOCAB)


def train(model: GPT, lr: float, mup: bool, steps: int) -> float:
    """The mean loss over the last quarter of the steps."""
    name, own = ("mup_adamw", {"base_width": BASE}) if mup else ("adamw", {})
    options: dict[str, Any] = {"lr": lr, "weight_decay": 0.0, **own}
    optimizer = registry.load("optimizer", name)(**options).build(model)
    losses: list[float] = []
    for step in range(steps):
        tokens = batch(step)
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    last = losses[-max(1, steps // 4) :]
    return sum(last) / len(last)


def sweep(width: int, mup: bool, rates: list[float], steps: int, seeds: int) -> list[float]:
    """The mean loss at each rate."""
    return [
        sum(train(model_of(width, mup, seed), lr, mup, steps) for seed in range(seeds)) / seeds
        for lr in rates
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    print(
        "| parametrisation | width | best | "
        + " | ".join(f"2^{round(torch.tensor(r).log2().item())}" for r in RATES)
        + " |"
    )
    print("|---" * (3 + len(RATES)) + "|")
    for mup in (False, True):
        for width in asked.widths:
            losses = sweep(width, mup, RATES, asked.steps, asked.seeds)
            best = round(torch.tensor(RATES[losses.index(min(losses))]).log2().item())
            row = " | ".join(f"{loss:.3f}" for loss in losses)
            print(f"| {'muP' if mup else 'standard'} | {width} | 2^{best} | {row} |", flush=True)


if __name__ == "__main__":
    main()
