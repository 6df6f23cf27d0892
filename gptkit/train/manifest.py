"""The proof of a folder of files: the size and sha256 of each, and of the list itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptkit.errors import CheckpointError
from gptkit.files import MIB, open_plain, parse_json, read_bytes, sync_directory, within, write_all

FORMAT = 1
NAME = "manifest.json"
_FILE = re.compile(r"^[a-z][a-z0-9_]*\.(safetensors|json)$")
_LIMIT = MIB
_JSON_LIMIT = 64 * MIB
_PIECE = 4 * MIB


class Corrupt(Exception):
    """What a folder holds is not what was written there; says what differs."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint's folder holds.

    Attributes:
        step: optimizer steps done.
        files: (bytes, sha256) by name.
    """

    step: int
    files: dict[str, tuple[int, str]]

    def dump(self) -> bytes:
        """As JSON, in the one form that is accepted; it carries its own sha256."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "step": self.step,
            "files": {name: {"bytes": n, "sha256": h} for name, (n, h) in sorted(self.files.items())},
        }
        digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
        return (json.dumps({**body, "sha256": digest}, indent=1) + "\n").encode()


def write(folder: Path, step: int, contents: Mapping[str, Iterable[bytes | memoryview]]) -> Manifest:
    """Make a folder of files and its manifest, all forced to the disk; the folder's own name is not.

    An fsync that fails is not tried again: the system may have dropped what it could not write.

    Raises:
        OSError: some of it may not be on the disk.
    """
    os.mkdir(folder)
    files = {name: _write_file(folder / name, pieces) for name, pieces in contents.items()}
    manifest = Manifest(step, dict(sorted(files.items())))
    _write_file(folder / NAME, [manifest.dump()])
    sync_directory(folder)
    return manifest


def prove(folder: Path, names: Collection[str] | None = None, step: int | None = None) -> Manifest:
    """Read a folder's manifest and compare its files with it.

    Args:
        folder: from `write`, perhaps long ago.
        names: only these files; all by default.
        step: the one that it must be of.

    Raises:
        Corrupt: something is missing, or is not what was written.
        OSError: something cannot be read; it may still be right.
    """
    manifest = _read(folder)
    if step is not None and manifest.step != step:
        raise Corrupt(f"its manifest is that of step {manifest.step}")
    for name in sorted(names or ()):
        if name not in manifest.files:
            raise Corrupt(f"it holds no {name}")
    for name, (size, digest) in manifest.files.items():
        if names is None or name in names:
            _compare(folder, name, size, digest)
    return manifest


def state_bytes(state: Mapping[str, Any]) -> bytes:
    """A checkpoint's plain data as JSON.

    Raises:
        CheckpointError: it would not come back as it was given; says which key.
    """
    plain = _plain(state, "state")
    try:
        data = (json.dumps(plain, ensure_ascii=False) + "\n").encode("utf-8")
        if len(data) > _JSON_LIMIT:
            raise ValueError(f"it takes {len(data):,} bytes, and {_JSON_LIMIT:,} are the most")
        parse_json(data)
    except ValueError as error:
        raise CheckpointError(f"The state of a checkpoint cannot be kept: {error}.") from None
    return data


def read_json_file(path: Path) -> Any:
    """The JSON of a checkpoint's file.

    Raises:
        OSError, ValueError: it cannot be read, or is not strict JSON.
    """
    return parse_json(read_bytes(path, _JSON_LIMIT))


def _plain(value: Any, key: str) -> Any:
    """The same as dicts and lists; refuses what JSON would change: numbers as keys, NaN, objects."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise CheckpointError(f"{key}: the key {name!r} is no text, so it would not come back so.")
        return {name: _plain(entry, f"{key}.{name}") for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, f"{key}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise CheckpointError(f"{key} is {value}, which JSON cannot hold; keep null in its place.")
    if value is not None and not isinstance(value, (bool, int, float, str)):
        kind = type(value).__name__
        raise CheckpointError(f"{key} is a {kind}, not plain data; tensors are given beside the state.")
    return value


def _write_file(path: Path, pieces: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Write a new file and force it to the disk; returns its size and sha256."""
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            write_all(descriptor, piece)
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):  # so that reading back asks the disk, not memory
            with contextlib.suppress(OSError):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return size, digest.hexdigest()


def _read(folder: Path) -> Manifest:
    try:
        data = read_bytes(within(folder, NAME), _LIMIT)
        told = parse_json(data)
        files = {name: (entry["bytes"], entry["sha256"]) for name, entry in told["files"].items()}
        manifest = Manifest(told["step"], files)
        if told["format"] != FORMAT:
            raise Corrupt(f"its format is {told['format']!r}; this gptkit reads {FORMAT}")
        if manifest.dump() != data:
            raise Corrupt("its manifest was changed")
    except (FileNotFoundError, NotADirectoryError):
        raise Corrupt("its manifest is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"its manifest is unreadable: {error}") from None
    plain = all(_FILE.match(name) and type(size) is int for name, (size, _) in files.items())
    if not plain or type(manifest.step) is not int:
        raise Corrupt("its manifest names what no checkpoint holds")
    return manifest


def _compare(folder: Path, name: str, size: int, expected: str) -> None:
    try:
        descriptor = open_plain(within(folder, name))
    except (FileNotFoundError, NotADirectoryError):
        raise Corrupt(f"{name} is missing") from None
    except ValueError as error:
        raise Corrupt(f"{name}: {error}") from None
    digest = hashlib.sha256()
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        found = os.fstat(descriptor).st_size
        if found != size:
            raise Corrupt(f"{name} has {found:,} bytes instead of {size:,}")
        while piece := file.read(_PIECE):
            digest.update(piece)
    if digest.hexdigest() != expected:
        raise Corrupt(f"{name} was changed: its sha256 is not the one written")
