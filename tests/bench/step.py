"""nanoGPT's CPU setting: what gptkit adds to a step, and the loss that it reaches."""

from __future__ import annotations

from bench.figure import Figure, in_process

NANOGPT = 1.886


def overhead(*, smoke: bool = False, repeats: int = 3) -> list[Figure]:
    """The time of a step through gptkit, Lightning, logging and all, beside a bare PyTorch loop."""
    steps = 30 if smoke else 600
    best = {"gptkit": float("inf"), "bare": float("inf")}
    for _ in range(1 if smoke else repeats):
        for side in best:
            seen = in_process("bench.step_side", side, "--steps", str(steps))
            best[side] = min(best[side], seen["milliseconds"])
    return [
        Figure(
            "a step of nano (4 x 128, 12 x 64)",
            "a bare PyTorch loop",
            best["gptkit"],
            best["bare"],
            "ms",
            most=1.05,
        )
    ]


def quality(*, smoke: bool = False) -> list[Figure]:
    """The validation loss after 2,000 steps on characters of 1.1 MB of Shakespeare."""
    seen = in_process("bench.step_side", "gptkit", "--steps", "20" if smoke else "2000", "--validate")
    return [
        Figure(
            "validation loss, 2,000 steps of nano",
            f"nanoGPT's {NANOGPT}",
            seen["val_loss"],
            None,
            "nats",
            most=NANOGPT,
        )
    ]
