"""What is imported, and when: starting a run is quick, and a launcher needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, sys
from importlib.util import find_spec
from gptkit.train.quick_import import import_lightning
import_lightning()
import lightning.pytorch as pl
heavy = [name for name in ("transformers", "scipy", "matplotlib") if name in sys.modules]
from lightning_utilities.core.imports import RequirementCache, package_available
there = find_spec("scipy") is not None
asked = [package_available("scipy"), bool(RequirementCache("scipy"))]
print(json.dumps([heavy, hasattr(pl, "Trainer"), asked == [there, there]]))
"""


def run(program: str) -> list:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_lightning_brings_nothing_that_training_has_no_use_for() -> None:
    heavy, works, back = run(PROGRAM)
    assert heavy == []
    assert works
    assert back  # afterwards they are there again, for whoever asks


def test_launching_needs_no_torch() -> None:
    program = (
        "import json, sys; import gptkit.train.launch, gptkit.train.worker, gptkit.train.agent; "
        "print(json.dumps([name for name in ('torch', 'lightning', 'numpy') if name in sys.modules]))"
    )
    assert run(program) == []
