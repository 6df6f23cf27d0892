"""Files that survive a crash when written, and that are checked when read.

A file is written beside its place, forced to the disk and renamed into it, so whoever reads sees
the old one or the new one whole. What is read may come from a stranger: only plain files, no links,
no more bytes than expected, and JSON that means one thing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MIB = 1 << 20
_CHUNK = 4 * MIB
_CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file may not grow so large here (see `ulimit -f`)",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reported an input/output error",
    errno.EMFILE: "too many files are open",
    errno.ENAMETOOLONG: "the path is too long",
}


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, whole or not at all. NaN and infinities become null.

    Raises:
        OSError: it was not written; what stood there before still stands.
        TypeError: the value is not plain data.
    """
    write_bytes(path, dump_json(_finite(value)))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and make it last.

    Raises:
        OSError: it was not written; what stood there before still stands.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    sync_directory(path.parent)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all bytes to an open file, in pieces; the system may take fewer at once than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest[:_CHUNK]) :]


def sync_file(path: Path) -> None:
    """Make a file that another wrote last."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a folder last: files created, renamed or removed there."""
    if os.name == "nt":
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a folder, and those above it, so that they last; it may be there already."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_directory(folder.parent)


def cause(error: OSError) -> str:
    """Why the system refused, in words: `the disk is full`."""
    return _CAUSES.get(error.errno or 0, error.strerror or type(error).__name__)


def dump_json(value: Any) -> bytes:
    """Plain data as UTF-8 JSON for people and programs.

    Raises:
        ValueError: a number is not finite.
        TypeError: the value is not plain data.
    """
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def _finite(value: Any) -> Any:
    """The same data with null for what JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def read_json(path: Path, limit: int = MIB) -> Any:
    """Strict JSON from a plain file.

    Args:
        path: a link, a device or a pipe is refused.
        limit: the most bytes it may have.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no plain file, too large, or not strict JSON; says which.
    """
    return parse_json(read_bytes(path, limit))


def parse_json(data: bytes) -> Any:
    """JSON with one meaning: UTF-8, no key twice, no NaN, no number too large for a float.

    Raises:
        ValueError: it is not; says where.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=_finite_number,
            parse_int=_whole_number,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a text holds half a character (a lone surrogate)") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!r} stands there twice")
    return result


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number that a config or state may hold")


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _whole_number(text: str) -> int:
    if len(text) > 40:
        raise ValueError(f"the number {text[:40]}... is too large")
    return int(text)


def read_bytes(path: Path, limit: int) -> bytes:
    """A plain file's bytes, at most `limit` of them.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no plain file, or larger than that.
    """
    descriptor = open_plain(path)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{size:,} bytes long, and at most {limit:,} are expected")
    return data


def open_plain(path: Path) -> int:
    """A descriptor that reads a plain file; never follows a link nor waits for a pipe.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is a link or no plain file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("it is a symbolic link, which may lead anywhere") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is not a plain file")
    return descriptor


def within(root: Path, *names: str) -> Path:
    """A path under `root`, none of whose steps below it is a link or leads elsewhere.

    Args:
        root: given by the user, so it may itself lie behind links.
        names: one a level; the last need not exist.

    Raises:
        ValueError: a step is a link, or is no plain name.
    """
    path = root
    for name in names:
        if name in {"", ".", ".."} or "/" in name or os.sep in name or "\0" in name:
            raise ValueError(f"{name!r} is no plain name")
        path = path / name
        if path.is_symlink():
            raise ValueError(
                f"{path} is a symbolic link, which may lead anywhere. "
                "If you trust it, copy the directory with its links resolved: cp -rL"
            )
    return path
