"""A cache of folders (`GPTKIT_CACHE`, else `~/.cache/gptkit`): each is made by the first who asks for it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from gptkit.errors import DataError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

T = TypeVar("T")


def kept(kind: str, key: str, read: Callable[[Path], T | None], write: Callable[[Path], None]) -> T:
    """What is kept under a key: read if it is whole, else written by the first who asks."""
    root = Path(os.environ.get("GPTKIT_CACHE") or Path.home() / ".cache" / "gptkit") / kind
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root / f"{key}.lock"):
            found = read(root / key)
            if found is not None:
                return found
            for left in root.glob(f".{key[:12]}-*"):  # by one that was killed: the lock is ours now
                shutil.rmtree(left, ignore_errors=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{key[:12]}-", dir=root))
            try:
                write(draft)
                shutil.rmtree(root / key, ignore_errors=True)
                draft.rename(root / key)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            found = read(root / key)
    except OSError as error:
        raise DataError(
            f"The token cache {root} cannot be used: {error.strerror or error}. "
            "Set GPTKIT_CACHE to a folder that can be written to."
        ) from None
    assert found is not None
    return found


def digest(path: Path, limit: int = 1 << 26) -> str:
    """A digest of a file; of its first and last half of `limit` bytes where it is larger."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(limit // 2))
        size = path.stat().st_size
        file.seek(max(limit // 2, size - limit // 2))
        digest.update(file.read(limit // 2))
    return digest.hexdigest()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait for the others who make the same arrays; the system frees the lock of one that dies."""
    with path.open("a") as file:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
