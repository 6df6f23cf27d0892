"""The page on writing a position encoding, followed to the letter in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "write_a_position.md").read_text("utf-8")
CODE = re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL).group(1)  # type: ignore[union-attr]


def follow(folder: Path, code: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "plugins").mkdir(exist_ok=True)
    (folder / "plugins" / "bell.py").write_text(code, "utf-8")
    whole = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "gptkit", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env=whole,
    )


def test_it_is_20_lines() -> None:
    lines = [line for line in CODE[CODE.index("@register") :].splitlines() if line.strip()]
    assert len(lines) <= 20


def test_it_is_shown_checked_and_trained(tmp_path: Path) -> None:
    shown = follow(tmp_path, CODE, "show", "position=bell")
    assert shown.returncode == 0, shown.stderr
    assert "Position: bell" in shown.stdout
    checked = follow(tmp_path, CODE, "check", "bell")
    assert checked.returncode == 0, checked.stdout
    assert re.search(r"```text\n(.*?)\n```", PAGE).group(1) in checked.stdout  # type: ignore[union-attr]
    trained = follow(tmp_path, CODE, "train", "position=bell", "model.position.width=8", "debug=smoke", "-q")
    assert trained.returncode == 0, trained.stderr


def test_the_fault_that_the_page_plants_is_found(tmp_path: Path) -> None:
    assert "/ width)" in CODE
    found = follow(tmp_path, CODE.replace("/ width)", "/ width.detach())"), "check", "bell")
    assert found.returncode == 1
    assert "Never learns: position.stretch" in found.stdout


def test_a_mistyped_option_is_told(tmp_path: Path) -> None:
    answered = follow(tmp_path, CODE, "train", "position=bell", "model.position.widht=8")
    assert answered.returncode == 2
    assert "width" in answered.stderr
    assert "Traceback" not in answered.stderr
