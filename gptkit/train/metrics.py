"""metrics.jsonl: the one true record of a run, a JSON object for each row.

Loggers, curves and reports are made from it. JSON has no NaN and no infinity, so a metric that is
not finite is written as null, and the row's `non_finite` says what it was:

    {"step": 7, "loss": null, "non_finite": {"loss": "NaN"}}

`read` puts the number back; any other JSON parser reads the line as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gptkit.errors import GptkitError

NOTE = "non_finite"  # the key that tells what a null stands for: "NaN", "Infinity" or "-Infinity"


class MetricsLog:
    """Appends rows to metrics.jsonl, each whole and at once, so that a kill loses at most one.

    Args:
        path: the file; made if it is not there.
        resume_step: the step that the run goes on from. Rows of later steps are dropped, since they
            will be written again; so is a line that a kill cut short. None keeps all whole rows.

    Raises:
        GptkitError: the file cannot be written.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        self.path = Path(path)
        self._file = -1
        try:
            if self.path.exists():
                _keep(self.path, resume_step)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            raise self._failure(error) from error

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; it is with the operating system when this returns.

        Args:
            row: metrics by name; numbers of numpy or torch become plain ones.

        Raises:
            GptkitError: the row could not be written whole, such as on a full disk. What was written
                before stays readable.
        """
        line = encode(row)
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise self._failure(error) from error
        self._size += len(line)

    def sync(self) -> None:
        """Wait until all rows are on the disk, such as before a checkpoint that relies on them."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _failure(self, error: OSError) -> GptkitError:
        return GptkitError(f"{self.path}: metrics cannot be written: {error.strerror or error}.")


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows of a metrics file, in order; none if there is no such file.

    A line that is no JSON object, such as one that is being written, is left out.
    """
    path = Path(path)
    if not path.exists():
        return []
    rows = (decode(line) for line in path.read_bytes().splitlines())
    return [row for row in rows if row is not None]


def encode(row: Mapping[str, Any]) -> bytes:
    """A row as one line of standard JSON, its line end included."""
    try:
        return _dumps(row)
    except ValueError:
        strange = {key: note for key, value in row.items() if (note := _note(value))}
        return _dumps({key: None if key in strange else row[key] for key in row} | {NOTE: strange})


def decode(line: bytes | str) -> dict[str, Any] | None:
    """The row that a line holds, with NaN and infinities put back; None if it holds no whole row."""
    try:
        row = json.loads(line)
        return row | {key: json.loads(note) for key, note in row.pop(NOTE, {}).items()}
    except (ValueError, TypeError, AttributeError):
        return None


def _dumps(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False, default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    """A number or an array of numpy or torch as Python's own; anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _note(value: Any) -> str:
    """What JSON cannot hold, in words; empty if it can."""
    try:
        json.dumps(value, allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(value, default=_plain)
    return ""


def _keep(path: Path, resume_step: int | None) -> None:
    """Rewrite the file with its whole rows up to a step, all at once; leave it alone if it has no others."""
    before = path.read_bytes()
    after = b"".join(_whole_lines(before.splitlines(keepends=True), resume_step))
    if after == before:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _whole_lines(lines: Iterable[bytes], resume_step: int | None) -> Iterable[bytes]:
    for line in lines:
        row = decode(line) if line.endswith(b"\n") else None
        if row is not None and (resume_step is None or row.get("step", 0) <= resume_step):
            yield line
