"""Training GPT-2 124M beside Hugging Face's: speed and peak memory."""

from __future__ import annotations

from bench.figure import Figure, in_process


def train(*, smoke: bool = False, repeats: int = 2) -> list[Figure]:
    """Batch 2 x 512 with AdamW, in bf16 autocast and in float32, the two sides in turn."""
    figures = []
    for precision in ("bf16", "32"):
        best = {"gptkit": (0.0, float("inf")), "transformers": (0.0, float("inf"))}
        for _ in range(1 if smoke else repeats):
            for side in best:
                options = [
                    "--precision",
                    precision,
                    "--steps",
                    "1" if smoke else "5",
                    *(["--small"] if smoke else []),
                ]
                seen = in_process("bench.gpt2_train", side, *options)
                speed, peak = best[side]
                best[side] = (max(speed, seen["tokens_per_second"]), min(peak, seen["peak_bytes"] / 2**30))
        (speed, peak), (peer_speed, peer_peak) = best["gptkit"], best["transformers"]
        name = f"GPT-2 124M, 2 x 512, {'bf16 autocast' if precision == 'bf16' else 'float32'}"
        figures.append(Figure(f"{name}: speed", "transformers", speed, peer_speed, "tokens/s", least=1.3))
        figures.append(Figure(f"{name}: peak memory", "transformers", peak, peer_peak, "GiB", most=0.8))
    return figures
