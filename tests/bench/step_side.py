"""One side of the step's time in its own process: `gptkit`, or a `bare` PyTorch loop.

Both train the same composed model on the same batches; prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["gptkit", "bare"])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--validate", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            "experiment=nanogpt_cpu", "data.batch_size=12", "devices=1",
            f"trainer.max_steps={arguments.steps}", f"run_root={folder}", "trainer.eval_every=null",
            "trainer.checkpoint_every=null", "trainer.sample_tokens=0",
        ]  # fmt: skip
        side = through_gptkit if arguments.side == "gptkit" else bare
        print(json.dumps(side(overrides, Path(folder))))


def through_gptkit(overrides: list[str], folder: Path) -> dict[str, float | None]:
    """The whole way: composed, logged, checkpointed, by Lightning."""
    from gptkit.cli import main as gptkit

    code = gptkit(["train", "-q", *overrides])
    if code:
        raise SystemExit(code)
    run = next(path for path in folder.iterdir() if (path / "result.json").is_file())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    result = json.loads((run / "result.json").read_text("utf-8"))
    training = [(row["step"], row["seconds"]) for row in rows if row.get("loss") is not None]
    per_step = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(training)]
    return {"milliseconds": 1000 * statistics.median(per_step), "val_loss": result["val_loss"]}


def bare(overrides: list[str], folder: Path) -> dict[str, float | None]:
    """What one would write by hand: the same model, batches, optimizer, clipping and schedule."""
    import torch

    import gptkit
    from gptkit import registry
    from gptkit.schema import part_options
    from gptkit.text.batches import BatchOrder, batch
    from gptkit.text.shards import prepare

    cfg = gptkit.compose(overrides)
    data = prepare(cfg)
    model = gptkit.build(cfg)
    length, steps = cfg["model"]["context_length"], cfg["trainer"]["max_steps"]
    order = BatchOrder(len(data.train), length, cfg["data"]["batch_size"], cfg["seed"])
    schedule = registry.load("schedule", cfg["schedule"]["name"])(**part_options("schedule", cfg["schedule"]))
    lr = cfg["optimizer"]["lr"]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=cfg["optimizer"]["betas"], weight_decay=0.1, fused=True
    )
    parameters = list(model.parameters())
    times = [time.perf_counter()]
    for step in range(steps):
        tokens, targets = batch(data.splits["train"], order.starts(step), length)
        loss = model.loss(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = lr * schedule.factor(step, steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 10 == 0:
            loss.item()
            times.append(time.perf_counter())
    per_step = [(b - a) / 10 for a, b in pairwise(times[1:])]
    return {"milliseconds": 1000 * statistics.median(per_step), "val_loss": None}


if __name__ == "__main__":
    main()
