"""One measured figure, beside its peer's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Figure:
    """A measurement of ours and of a peer's.

    Attributes:
        name: what was measured.
        peer_name: beside what.
        ours, peer: the two figures; `peer` is None where the mark is absolute.
        unit: of both.
        least, most: the marks of `ratio` (or of `ours`, without a peer); None where there is none.
    """

    name: str
    peer_name: str
    ours: float
    peer: float | None
    unit: str
    least: float | None = None
    most: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None else self.ours / self.peer

    @property
    def reached(self) -> bool:
        value = self.ours if self.ratio is None else self.ratio
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def mark(self) -> str:
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"

    @property
    def ours_text(self) -> str:
        return f"{self.ours:.4g} {self.unit}"

    @property
    def peer_text(self) -> str:
        return "" if self.peer is None else f"{self.peer:.4g} {self.unit}"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "reached": self.reached}


def in_process(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module of the bench in its own process; its last line of output is JSON.

    A process of its own gives its own peak memory, and no warm caches from the other side.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests"),
        "TRANSFORMERS_VERBOSITY": "error",
        "TQDM_DISABLE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
