"""Faults at each operation on files: kills, errors, and a model of a power cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READS = ("listdir", "scandir")
WRITES = (
    "open",
    "write",
    "fsync",
    "close",
    "mkdir",
    "rename",
    "replace",
    "unlink",
    "rmdir",
    "ftruncate",
    "pwrite",
)
FULL = ("open", "write", "fsync", "mkdir", "rename", "replace")  # what a full or failing disk refuses


@contextlib.contextmanager
def watched(
    act: Callable[[int, str, tuple[Any, ...]], None], names: tuple[str, ...] = WRITES
) -> Iterator[list[str]]:
    """Call `act(number, name, arguments)` before each operation of the `os` module; gives their names."""
    seen: list[str] = []
    originals = {name: getattr(os, name) for name in names}

    def wrap(name: str) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            seen.append(name)
            act(len(seen), name, arguments)
            return originals[name](*arguments, **options)

        return operation

    try:
        for name in names:
            setattr(os, name, wrap(name))
        yield seen
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


@contextlib.contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where there is one: what is injected does not depend on the disk's speed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def operations(work: Callable[[], Any], names: tuple[str, ...] = WRITES) -> list[str]:
    """The operations that `work` makes, in order."""
    with watched(lambda *_: None, names) as seen:
        work()
    return seen


def killed_at(number: int, work: Callable[[], Any]) -> bool:
    """Do `work` in a child that dies just before its operation `number`; returns whether it did."""
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            with watched(lambda n, name, _: os._exit(9) if n == number else None):
                work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 9), code
    return code == 9


@dataclass
class Journal:
    """What a process asked of the file system, under one folder, for replaying a power cut.

    The model: changes of names reach the disk in the order they were made, and at the latest when
    some folder is synced; bytes of a file reach it at the latest when that file is synced.
    """

    root: Path
    events: list[tuple[Any, ...]] = field(default_factory=list)
    _paths: dict[int, str] = field(default_factory=dict)
    _inodes: int = 0

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Write down each operation below the folder."""
        originals = {name: getattr(os, name) for name in WRITES}

        def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            where = self._where(path, dir_fd)
            new = where is not None and flags & os.O_CREAT and not os.path.lexists(self.root / where)
            descriptor = originals["open"](path, flags, mode, dir_fd=dir_fd)
            if where is not None:
                self._paths[descriptor] = where
                if new:
                    self._inodes += 1
                    self.events.append(("create", where, self._inodes))
            return descriptor

        def written(descriptor: int, data: Any) -> int:
            count = originals["write"](descriptor, data)
            if descriptor in self._paths:
                self.events.append(("write", self._paths[descriptor], bytes(data[:count])))
            return count

        def synced(descriptor: int) -> None:
            originals["fsync"](descriptor)
            if descriptor in self._paths:
                self.events.append(("sync", self._paths[descriptor]))

        def closed(descriptor: int) -> None:
            self._paths.pop(descriptor, None)
            originals["close"](descriptor)

        def named(kind: str) -> Callable[..., None]:
            def change(*arguments: Any, dir_fd: int | None = None, **options: Any) -> None:
                if dir_fd is not None:
                    options["dir_fd"] = dir_fd
                originals[kind](*arguments, **options)
                paths = arguments if kind in ("rename", "replace") else arguments[:1]
                where = [self._where(path, dir_fd) for path in paths]
                if None not in where:
                    self.events.append(("rename" if kind == "replace" else kind, *where))

            return change

        replaced: dict[str, Any] = {"open": opened, "write": written, "fsync": synced, "close": closed}
        replaced |= {kind: named(kind) for kind in ("mkdir", "rename", "replace", "unlink", "rmdir")}
        try:
            for name, function in replaced.items():
                setattr(os, name, function)
            yield
        finally:
            for name in replaced:
                setattr(os, name, originals[name])

    def acknowledge(self, what: Any) -> None:
        """Note that the process said it had saved `what`."""
        self.events.append(("ack", what))

    def crashes(self) -> Iterator[tuple[Any, dict[str, bytes | None]]]:
        """Each state that a power cut can leave: what was acknowledged, and the tree (None: a folder)."""
        seen = set()
        for now in range(len(self.events) + 1):
            past = self.events[:now]
            said = next((event[1] for event in reversed(past) if event[0] == "ack"), None)
            folders = (
                {"."} | {e[1] for e in past if e[0] == "mkdir"} | {e[2] for e in past if e[0] == "rename"}
            )
            synced = max((i for i, e in enumerate(past) if e[0] == "sync" and e[1] in folders), default=0)
            for names_until in range(synced, now + 1):
                for lost in ("nothing", "all", "half"):
                    tree = self._tree(past, names_until, lost)
                    key = (
                        said,
                        tuple(sorted((k, v) for k, v in tree.items() if v is not None)),
                        tuple(sorted(tree)),
                    )
                    if key not in seen:
                        seen.add(key)
                        yield said, tree

    def _tree(self, past: list[tuple[Any, ...]], names_until: int, lost: str) -> dict[str, bytes | None]:
        live: dict[str, int | None] = {}
        disk: dict[str, int | None] = {}
        data: dict[int, bytes] = {}
        safe: dict[int, bytes] = {}
        for index, (kind, *arguments) in enumerate(past):
            if kind == "write":
                inode = live[arguments[0]]
                data[inode] = data.get(inode, b"") + arguments[1]  # type: ignore[index, arg-type]
            elif kind == "sync":
                inode = live.get(arguments[0])
                if inode is not None:
                    safe[inode] = data.get(inode, b"")
            elif kind != "ack":
                _change(live, kind, arguments)
                if index < names_until:
                    _change(disk, kind, arguments)
        tree: dict[str, bytes | None] = {}
        for path, inode in disk.items():
            if inode is None:
                tree[path] = None
                continue
            all_of, kept = data.get(inode, b""), safe.get(inode, b"")
            unsynced = {"nothing": len(all_of), "all": len(kept), "half": (len(kept) + len(all_of)) // 2}[
                lost
            ]
            tree[path] = all_of[: max(unsynced, len(kept))]
        return tree

    def _where(self, path: Any, dir_fd: int | None = None) -> str | None:
        if dir_fd is not None:
            return None if dir_fd not in self._paths else os.path.normpath(f"{self._paths[dir_fd]}/{path}")
        try:
            return str(Path(path).relative_to(self.root))
        except (ValueError, TypeError):
            return None


def _change(names: dict[str, int | None], kind: str, arguments: list[Any]) -> None:
    if kind == "create":
        names[arguments[0]] = arguments[1]
    elif kind == "mkdir":
        names[arguments[0]] = None
    elif kind in ("unlink", "rmdir"):
        names.pop(arguments[0], None)
    elif kind == "rename":
        old, new = arguments
        for path in [p for p in names if p == old or p.startswith(old + "/")]:
            names[new + path[len(old) :]] = names.pop(path)


def materialise(tree: dict[str, bytes | None], folder: Path) -> None:
    """Make a tree of files as a power cut left it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path, content in sorted(tree.items()):
        target = folder / path
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
