"""From pressing Enter on `gptkit train` to the first optimizer step."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figure import ROOT, Figure


def first_step(*, smoke: bool = False, repeats: int = 3) -> list[Figure]:
    """Seconds until the first row of metrics is on the disk; the best of some warm starts."""
    seconds = [_start() for _ in range(1 if smoke else repeats + 1)]
    return [Figure("Enter to the first step", "a warm machine", min(seconds), None, "s", most=6.0)]


def _start() -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "gptkit", "train", f"run_root={folder}",
            "trainer.max_steps=100000", "trainer.log_every=1",
        ]  # fmt: skip
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not any(p.stat().st_size for p in Path(folder).glob("*/metrics.jsonl")):
                if process.poll() is not None:
                    raise RuntimeError("gptkit train ended before its first step")
                time.sleep(0.005)
            return time.perf_counter() - start
        finally:
            process.terminate()
            process.wait(60)
