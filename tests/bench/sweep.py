"""What a sweep costs beside its trainings, and how long a report of many finished runs takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figure import Figure

_WORDS = [
    "experiment=positions", "position=none,rotary", "lengths=none", "trainer.eval_every=null",
    "trainer.eval_batches=1",
    "trainer.sample_tokens=0", "logger=none", "trainer.max_steps=1000000", "jobs=2",
]  # fmt: skip


def overhead(*, smoke: bool = False) -> list[Figure]:
    """Twenty jobs of ten seconds on two cores, from Enter to the report, beside the hundred seconds of training.

    Each job's ten seconds are of training; starting, a short validation and a checkpoint are what it costs. Nothing
    is measured afterwards: that is work that one asks for.
    """
    seeds, each = (1, 1) if smoke else (10, 10)
    words = [*_WORDS, f"seed={','.join(str(seed + 1) for seed in range(seeds))}", f"budget=seconds:{each}"]
    with tempfile.TemporaryDirectory() as folder:
        seconds = _timed(words, folder)
        trained = [
            json.loads(p.read_text())["seconds"] for p in Path(folder).glob("runs/*/jobs/*/result.json")
        ]
    ideal = len(trained) * each / 2
    return [
        Figure(
            f"a sweep of {len(trained)} jobs of {each} s",
            "their training on 2 cores",
            seconds,
            ideal,
            "s",
            most=1.15,
        )
    ]


def gathered(*, smoke: bool = False) -> list[Figure]:
    """The report of 1,000 finished runs: the folders of a small sweep, many times over."""
    count = 20 if smoke else 1000
    small = [
        "debug=smoke",
        "tokenizer=byte",
        "position=none,rotary",
        "seed=1,2",
        "lengths=1,2",
        "logger=none",
    ]
    with tempfile.TemporaryDirectory() as folder:
        _timed(small, folder)
        made = sorted(Path(folder).glob("runs/*/jobs/*"))
        many = Path(folder, "many")
        many.mkdir()
        for number in range(count):
            copy = many / f"{number:04}"
            shutil.copytree(made[number % len(made)], copy, ignore=shutil.ignore_patterns("checkpoints"))
            config = json.loads((copy / "config.json").read_text())
            config["seed"] = 1 + number // len(made)
            (copy / "config.json").write_text(json.dumps(config))
        seconds = _timed([f"runs={many}/*"], folder)
    return [Figure(f"a report of {count:,} finished runs", "", seconds, None, "s", most=20.0)]


def _timed(words: list[str], folder: str) -> float:
    """The seconds that `gptkit compare` takes in a folder."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "gptkit", "compare", "-q", *words],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            f"gptkit compare {' '.join(words)} failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}"
        )
    return time.perf_counter() - start
