"""The sweeps that claims are judged by: each a command that anyone can type."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gptkit.compare.gather import gather
from gptkit.compare.results import Results

_SMALL = (
    "trainer.max_steps=4 trainer.eval_every=2 trainer.log_every=1 data.batch_size=2 model.d_model=16 model.n_heads=2 "
    "trainer.eval_batches=2"
)
_SMALL_PROBE = "data.examples=40 data.test_examples=4 data.max_length=4 data.test_lengths=[4,6]"


@dataclass(frozen=True)
class Sweep:
    """A comparison.

    Attributes:
        name: of its folder.
        words: what `gptkit compare` is given, seeds left out.
        probe: whether its data are examples.
    """

    name: str
    words: str
    probe: bool = False

    def command(self, seeds: Sequence[int]) -> str:
        """What a reader can type."""
        return f"gptkit compare {self.words} seed={','.join(map(str, seeds))}"

    def run(
        self, root: Path, seeds: Sequence[int], *, small: bool = False, jobs: int | None = None
    ) -> Results:
        """Train what is missing, and read all of it.

        Raises:
            SystemExit: it was stopped, or jobs failed; doing it again goes on.
        """
        found = sorted(root.glob(f"*-{self.name}-*/sweep.json"))
        if found:
            words = [f"resume={found[-1].parent}"]
        else:
            words = [*shlex.split(self.words), f"seed={','.join(map(str, seeds))}", f"name={self.name}"]
            words += [f"run_root={root}", *shlex.split(_SMALL if small else "")]
            words += shlex.split(_SMALL_PROBE) if small and self.probe else []
        command = [
            sys.executable,
            "-m",
            "gptkit",
            "compare",
            *words,
            *([f"jobs={jobs}"] if jobs else []),
            "--quiet",
        ]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise SystemExit(f"{self.name} did not finish. The same command goes on where it stopped.")
        return gather(sorted(root.glob(f"*-{self.name}-*/sweep.json"))[-1].parent)


_READY = "experiment=positions model.d_model=64 model.n_layers=2 model.context_length=32 data.batch_size=32 optimizer.lr=4e-3"
_TEXT = f"{_READY} lengths=1"
_STEPS = "trainer.max_steps=600"
_PROBE = "experiment=positions model.d_model=64 data.batch_size=32 lengths=1"

SWEEPS = {
    sweep.name: sweep
    for sweep in (
        Sweep("base", f"{_READY} {_STEPS} position=sinusoidal,learned,none,rotary,alibi lengths=1,2,4,8"),
        Sweep("full", f"{_TEXT} {_STEPS} mask=full position=none,rotary"),
        Sweep("scaled", f"{_TEXT} embedding=scaled position=sinusoidal,learned trainer.max_steps=1200"),
        Sweep(
            "bigram",
            "experiment=positions model=bigram model.n_layers=0,1 position=none data.batch_size=64 lengths=1 "
            "trainer.max_steps=1000 optimizer.lr=1e-2 optimizer.weight_decay=0",
        ),
        Sweep(
            "layers",
            f"{_PROBE} model=attention_only norm=layer data=induction model.n_layers=1,2 position=alibi data.symbols=16 "
            "data.min_length=3 data.max_length=8 data.test_lengths=[8,12] data.batch_size=64 optimizer.lr=1e-2 "
            "trainer.max_steps=5000",
            probe=True,
        ),
        Sweep("copy", f"{_PROBE} data=copy position=none,rotary,alibi trainer.max_steps=1000", probe=True),
        Sweep(
            "reverse", f"{_PROBE} data=reverse position=none,rotary,alibi trainer.max_steps=1000", probe=True
        ),
        Sweep("count", f"{_PROBE} data=count position=none,rotary,alibi trainer.max_steps=500", probe=True),
    )
}
