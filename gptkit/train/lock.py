"""One process at a time writes to a run; the system frees the lock of a process that dies."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gptkit.errors import RunError
from gptkit.files import make_directory

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_PATIENCE_SECONDS = 0.5  # someone may only be looking whether the lock is held


class FileLock:
    """An exclusive lock on a file, held by a process; the same process may take it again.

    Where the file system knows no locks, it is granted to all, and `certain` is false.

    Args:
        path: the lock's own file; made, and left there.
        guarded: what is written to under it, for messages.
    """

    def __init__(self, path: Path, guarded: Path) -> None:
        self.path, self.guarded = path, guarded
        self.certain = True
        self._depth = 0
        self._descriptor: int | None = None
        self._mutex = threading.Lock()
        _locks.add(self)

    @contextmanager
    def held(self, patience: float = _PATIENCE_SECONDS) -> Iterator[None]:
        """Hold the lock for a while.

        Args:
            patience: seconds to wait for it.

        Raises:
            RunError: another process holds it; says which.
            OSError: the file cannot be made.
        """
        with self._mutex:
            if self._depth == 0:
                self._acquire(patience)
            self._depth += 1
        try:
            yield
        finally:
            with self._mutex:
                self._depth -= 1
                if self._depth == 0:
                    self._release()

    @contextmanager
    def attempted(self) -> Iterator[bool]:
        """Hold the lock if it can be had at once; gives whether it was."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.held(patience=0.0))
            except (RunError, OSError):
                yield False
                return
            yield True

    def holder(self) -> str | None:
        """Who holds the lock, such as `process 4711 on ada`; None if nobody does."""
        if self._depth:
            return _me()
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:
            return None
        try:
            if fcntl is None:
                return None
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._told()
        except OSError:
            return None
        else:
            return None
        finally:
            os.close(descriptor)

    def _acquire(self, patience: float) -> None:
        make_directory(self.path.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock(descriptor, patience)
            with contextlib.suppress(OSError):  # only a note; a full disk must not cost the lock
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, _me().encode("utf-8"), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _lock(self, descriptor: int, patience: float) -> None:
        deadline = time.monotonic() + patience
        while fcntl is not None:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunError(
                        f"{self.guarded} is being written by {self._told()}. Wait until it ends, or stop it."
                    ) from None
                time.sleep(0.02)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                break
        self.certain = False

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            if fcntl is not None:  # at once, though a child just forked may have the file open
                with contextlib.suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _told(self) -> str:
        try:
            return self.path.read_text("utf-8") or "another process"
        except (OSError, UnicodeDecodeError):
            return "another process"

    def forget(self) -> None:
        """Let a forked child not hold what its parent holds."""
        self._mutex = threading.Lock()
        self._depth = 0
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)  # which leaves the parent's lock as it is


def _me() -> str:
    return f"process {os.getpid()} on {platform.node() or 'this machine'}"


_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _in_child() -> None:
    for lock in list(_locks):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)  # a data worker must not keep a dead trainer's lock
