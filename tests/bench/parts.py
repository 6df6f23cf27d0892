"""What being made of parts costs, and what a bias by distance costs beside none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

import gptkit
from bench.by_hand import ByHand
from bench.figure import Figure
from gptkit.model.assemble import part
from gptkit.model.init import GPT2Init, initialise
from gptkit.model.interfaces import MaskContext, ModelShape, Step


def composed(*, smoke: bool = False) -> list[Figure]:
    """A training step of GPT-2 through the registry's parts, beside the same model written by hand."""
    width, layers, heads, length, vocabulary = (32, 2, 2, 16, 64) if smoke else (384, 6, 6, 256, 8192)
    sizes = {
        "d_model": width, "n_layers": layers, "n_heads": heads, "context_length": length, "vocab_size": vocabulary,
        "feed_forward": {"name": "mlp", "activation": "gelu_tanh"},
    }  # fmt: skip
    ours = gptkit.build({"model": sizes}).train()
    theirs = ByHand(vocabulary, length, width, layers, heads)
    theirs.take(ours)
    tokens = torch.randint(0, vocabulary, (4, length + 1), generator=torch.Generator().manual_seed(1))
    losses: dict[str, float] = {}

    def step(name: str, model: torch.nn.Module) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

        def run() -> None:
            loss = model.loss(tokens[:, :-1], tokens[:, 1:])  # type: ignore[operator]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses[name] = loss.item()

        return run

    best = in_turn({"ours": step("ours", ours), "theirs": step("theirs", theirs)}, 2 if smoke else 40)
    if abs(losses["ours"] - losses["theirs"]) > 1e-3:
        raise AssertionError(f"They are not the same model: losses {losses}.")
    name = f"a step of GPT-2 ({layers} x {width}, 4 x {length})"
    return [
        Figure(
            name,
            "written by hand",
            1e3 * best["ours"],
            1e3 * best["theirs"],
            "ms",
            most=1.02,
        )
    ]


def bias(*, smoke: bool = False) -> list[Figure]:
    """Attention of GPT-2's width with a bias by distance, forward and back, beside the fast path without."""
    length, width, heads, layers = (32, 32, 2, 2) if smoke else (1024, 768, 12, 3)
    shape = ModelShape(8, length, width, layers, heads, heads, width // heads, 4 * width)
    x, at = torch.randn(1 if smoke else 2, length, width), torch.arange(length)[None]

    def run(name: str) -> Callable[[], None]:
        position = part("position", name, shape)
        attention = part("attention", "multi_head", shape, position, part("mask", "causal"))
        attention.own("position")
        initialise(attention, GPT2Init(shape), 1)

        def once() -> None:
            memo: dict[object, object] = {}  # layers share the bias
            steps = [Step(at, at, MaskContext(), memo=memo) for _ in range(layers)]
            torch.stack([attention(x, step).sum() for step in steps]).sum().backward()

        return once

    names = ("none", "alibi", "t5")
    best = in_turn({name: run(name) for name in names}, 1 if smoke else 12)
    return [
        Figure(
            f"an attention layer with {name} at {length} tokens, forward and back", "without a bias",
            1e3 * best[name], 1e3 * best["none"], "ms", most=1.3,
        )
        for name in names[1:]
    ]  # fmt: skip


def in_turn(sides: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """The quickest run of each side in seconds; they take turns, so that a busy moment hits all."""
    best = dict.fromkeys(sides, float("inf"))
    for run in sides.values():
        run()
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best
