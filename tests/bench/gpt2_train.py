"""GPT-2 124M, batch 2 x 512, AdamW: one side of the comparison in its own process.

`python tests/bench/gpt2_train.py gptkit|transformers --precision 32|bf16` prints one JSON line: tokens
a second (of the median step after two to warm up) and the peak resident memory of the process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from gptkit.train.allocator import KeptMemory
from gptkit.train.hardware import memory_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["gptkit", "transformers"])
    parser.add_argument("--precision", choices=["32", "bf16"], default="bf16")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a tiny model, to see that it runs")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    sizes = (2, 64, 2, 128) if arguments.small else (12, 768, 12, 512)
    layers, width, heads, length = sizes
    side = gptkit_side if arguments.side == "gptkit" else transformers_side
    loss_of, parameters = side(layers, width, heads)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    memory, times = KeptMemory(), []
    for _ in range(arguments.steps + 2):
        times.append(step(loss_of, optimizer, length, arguments.precision))
        if arguments.side == "gptkit":
            memory.after_step()  # as `gptkit train` does on a CPU
    print(
        json.dumps(
            {
                "tokens_per_second": 2 * length / statistics.median(times[2:]),
                "peak_bytes": memory_bytes("cpu"),
                "seconds": times,
            }
        )
    )


def step(loss_of: Callable, optimizer: torch.optim.Optimizer, length: int, precision: str) -> float:
    """The seconds of one training step on random tokens."""
    tokens = torch.randint(0, 50257, (2, length + 1))
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = loss_of(tokens)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    loss.item()
    return time.perf_counter() - start


def gptkit_side(layers: int, width: int, heads: int) -> tuple[Callable, list[torch.nn.Parameter]]:
    """gptkit's GPT-2 composition."""
    import gptkit

    sizes = [f"model.n_layers={layers}", f"model.d_model={width}", f"model.n_heads={heads}"]
    model = gptkit.build(gptkit.compose(["model=gpt2", "tokenizer=gpt2", "model.dropout=0.0", *sizes]))
    return lambda tokens: model.loss(tokens[:, :-1], tokens[:, 1:]), list(model.parameters())


def transformers_side(layers: int, width: int, heads: int) -> tuple[Callable, list[torch.nn.Parameter]]:
    """Hugging Face's GPT-2, as `GPT2LMHeadModel(labels=...)` computes its loss."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=layers, n_embd=width, n_head=heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    model = GPT2LMHeadModel(config).train()
    return lambda tokens: model(tokens[:, :-1], labels=tokens[:, :-1]).loss, list(model.parameters())


if __name__ == "__main__":
    main()
