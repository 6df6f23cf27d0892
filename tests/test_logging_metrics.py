"""metrics.jsonl: every row whole, none lost, none twice, readable by any JSON parser."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptkit.errors import GptkitError
from gptkit.train import metrics
from gptkit.train.metrics import MetricsLog

NUMBERS = st.one_of(st.integers(-(2**60), 2**60), st.floats(), st.none(), st.text(max_size=5), st.booleans())


def strict(line: str) -> object:
    """Parse as the standard has it: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(line, parse_constant=refuse)


def same(a: object, b: object) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda k: k != metrics.NOTE), NUMBERS))
def test_any_row_comes_back_and_is_standard_json(row: dict[str, object]) -> None:
    line = metrics.encode(row)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert isinstance(strict(line.decode()), dict)
    back = metrics.decode(line)
    assert back is not None
    assert list(back) == list(row)
    assert all(same(back[key], row[key]) for key in row)


def test_not_finite_is_null_with_a_note() -> None:
    assert strict(metrics.encode({"step": 7, "loss": math.nan, "x": -math.inf}).decode()) == {
        "step": 7,
        "loss": None,
        "x": None,
        "non_finite": {"loss": "NaN", "x": "-Infinity"},
    }


def test_numbers_of_other_libraries_become_plain() -> None:
    row = {"a": np.float32(0.5), "b": torch.tensor(2), "c": np.array([1.0, math.inf]), "d": np.float64("nan")}
    back = metrics.decode(metrics.encode(row))
    assert back is not None
    assert (back["a"], back["b"], back["c"]) == (0.5, 2, [1.0, math.inf])
    assert math.isnan(back["d"])


def test_rows_are_read_back_in_order(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 1 / step} for step in range(1, 20)]
    with MetricsLog(tmp_path / "m.jsonl") as log:
        for row in rows:
            log.write(row)
            assert metrics.read(tmp_path / "m.jsonl")[-1] == row
    assert metrics.read(tmp_path / "m.jsonl") == rows
    assert metrics.read(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_resuming_drops_later_steps_and_torn_ends_wherever_they_tear(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "m.jsonl"
    with MetricsLog(path) as log:
        for step in range(1, 9):
            log.write({"step": step, "loss": 0.5})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    with MetricsLog(path, resume_step=5) as log:
        for step in range(6, 11):
            log.write({"step": step, "loss": 0.25})
    assert [row["step"] for row in metrics.read(path)] == list(range(1, 11))
    assert list(tmp_path.iterdir()) == [path]


def test_opening_again_without_a_step_keeps_all_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n\0\0\0\n{"step": 2}\n{"step": 3, "lo')
    with MetricsLog(path) as log:
        log.write({"step": 3})
    assert metrics.read(path) == [{"step": 1}, {"step": 2}, {"step": 3}]


def test_a_kill_loses_nothing_that_was_written(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom gptkit.train.metrics import MetricsLog\n"
        "log = MetricsLog(Path(sys.argv[1]))\n"
        "for step in range(1, 501): log.write({'step': step})\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "m")], cwd=Path(__file__).parents[1], check=False
    )
    assert [row["step"] for row in metrics.read(tmp_path / "m")] == list(range(1, 501))


def test_a_full_disk_is_named_and_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    log.write({"step": 1})
    real = metrics.os.write

    def half(file: int, data: bytes) -> int:
        if len(data) <= 6:
            raise OSError(28, "No space left on device")
        return real(file, data[:6])

    with monkeypatch.context() as patched:
        patched.setattr(metrics.os, "write", half)
        with pytest.raises(GptkitError, match=r"m\.jsonl: metrics cannot be written: No space left"):
            log.write({"step": 2, "loss": 0.5})
    log.write({"step": 3})
    log.close()
    log.close()
    assert metrics.read(tmp_path / "m.jsonl") == [{"step": 1}, {"step": 3}]


def test_a_row_costs_little(tmp_path: Path) -> None:
    row = {f"metric_{i}": 1.2345678 * i for i in range(11)}
    with MetricsLog(tmp_path / "m.jsonl") as log:
        times = []
        for _ in range(20):
            start = time.perf_counter()
            for _ in range(100):
                log.write(row)
            times.append((time.perf_counter() - start) / 100)
    assert min(times) < 50e-6
