"""What an installed gptkit holds: its code with its types, every choice, every plugin."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "gptkit": "gptkit",
    "conf": "gptkit/conf",
    "plugins": "gptkit/plugins",
}  # in the checkout, in the wheel


def test_type_checkers_are_told_to_read_the_annotations() -> None:
    assert (resources.files("gptkit") / "py.typed").is_file()  # PEP 561


def test_a_wheel_holds_all_that_the_checkout_does(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--retries", "0", "--disable-pip-version-check", "wheel"]
    built = subprocess.run(
        [*pip, "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    if "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("there is no package index here, and what builds the wheel is not at hand")
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("gptkit-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"{place}/{path.relative_to(ROOT / room).as_posix()}"
        for room, place in ROOMS.items()
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(expected) > 300
    assert expected - held == set()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
