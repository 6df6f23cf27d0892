"""What a run has written so far, cut back to the step that it goes on from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_HEADING = "=== step "


def rewind_metrics(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop the rows after `step`, and a last line that a crash left torn; returns the rows kept."""
    if not path.exists():
        return []
    rows = []
    lines = path.read_text("utf-8").splitlines()
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if row.get("step", 0) > step:
            break
        rows.append(row)
    if len(rows) < len(lines):
        _replace(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def drop_last_row(path: Path) -> None:
    """Take the last row of metrics back."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    _replace(path, "".join(lines[:-1]))


def add_sample(path: Path, step: int, text: str) -> None:
    """Write a sample of text under its step."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{_HEADING}{step} ===\n{text}\n\n")


def rewind_samples(path: Path, step: int) -> None:
    """Drop the samples after `step`."""
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text("utf-8").splitlines(keepends=True):
        if line.startswith(_HEADING):
            number = line.removeprefix(_HEADING).split(" ", 1)[0]
            if number.isdigit() and int(number) > step:
                break
        kept.append(line)
    _replace(path, "".join(kept))


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(text, "utf-8")
    draft.replace(path)
