"""The checkpoints of a run: each one whole and proven on the disk, or not there.

    step-000500/
        model.safetensors  optimizer.safetensors   one file for each group of tensors
        state.json                                  the rest, plain data
        manifest.json                               step, size and sha256 of each file, and of itself

A checkpoint is written in a hidden folder beside its place, each file and the folder forced to the
disk, renamed, the parent forced to the disk, then read back and compared. Only then do older ones
go, and never the last two that were proven. So a kill, a power cut or a full disk at any moment
leaves the newest acknowledged checkpoint to go on from. Times of files mean nothing here: the step
in the name orders them, and a name is believed only with its manifest.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptkit.errors import CheckpointError
from gptkit.files import cause, sync_directory
from gptkit.train import manifest
from gptkit.train.lock import FileLock
from gptkit.train.manifest import Corrupt, Manifest

if TYPE_CHECKING:
    from torch import Tensor

_PLACE = re.compile(r"^step-([0-9]{6,})(\.previous)?$")
_GROUP = re.compile(r"^[a-z][a-z0-9_]*$")
_PREVIOUS, _CORRUPT = ".previous", ".corrupt"
_DRAFT, _TRASH = ".draft-", ".trash-"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved at a step.

    Attributes:
        step: optimizer steps done.
        tensors: by group, then by name; on the CPU, each in memory of its own.
        state: plain data.
        path: the folder it was read from.
        notices: what stood in the way: newer checkpoints that could not be used, and why.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    path: Path
    notices: tuple[str, ...] = ()


class CheckpointStore:
    """Saves and loads the checkpoints of one run. Threads may share it; it touches no signals.

    Args:
        directory: holds the checkpoints; made when the first is saved.
        keep: how many of the newest stay; at least two, so that there is one to fall back to.

    Attributes:
        notices: what went wrong beside the last save without harming it, such as an old checkpoint
            that could not be deleted.
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int = 2) -> None:
        self.directory = Path(directory)
        self.keep = max(2, keep)
        self.notices: list[str] = []
        self._lock = FileLock(self.directory / ".lock", guarded=self.directory.parent)
        self._one_at_a_time = threading.RLock()
        self._proven: dict[str, Manifest] = {}

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint and prove it; returns its folder.

        The tensors must not change meanwhile. A checkpoint of the same step is replaced.

        Args:
            step: optimizer steps done.
            tensors: by group (a lower-case word), then by name. Whole tensors on any device; one
                that stands under two names is kept once and is one again when loaded.
            state: plain data with text keys: numbers are finite, tuples come back as lists.

        Raises:
            CheckpointError: it is not saved; says why. What was saved before is untouched.
            RunError: another process writes to this run.
        """
        name = _name(step)
        self.notices = []
        contents = _contents(tensors, state)
        with self._one_at_a_time:
            try:
                with self._lock.held():
                    self._sweep()
                    place = self._commit(name, step, contents)
                    self._retain(place)
            except OSError as error:
                raise CheckpointError(self._refusal(step, error)) from error
            except Corrupt as reason:
                raise CheckpointError(
                    f"The checkpoint of step {step} was written, but reads back wrong: {reason}. "
                    f"It was removed. The disk may be failing. {self._still_there(step)}"
                ) from None
        return place

    def load(
        self, step: int | None = None, *, groups: Iterable[str] | None = None, quarantine: bool = True
    ) -> Checkpoint:
        """The newest checkpoint that is what it says it is, or the one of a given step.

        When the newest is asked for, a damaged one is passed over, told of in `notices`, and renamed
        to `<name>.corrupt` unless another process writes to this run or the folder is read-only.

        Args:
            step: this one and no other.
            groups: only these groups of tensors, and only their files are checked.
            quarantine: whether damaged checkpoints are renamed.

        Raises:
            CheckpointError: there is none, or none is whole; says what is wrong with each.
        """
        names = None if groups is None else {f"{group}.safetensors" for group in groups} | {"state.json"}
        notices: list[str] = []
        may_rename = quarantine and step is None and bool(self._places())
        with self._lock.attempted() if may_rename else contextlib.nullcontext(False) as mine:
            seen: set[str] = set()
            while place := self._next(step, seen):
                seen.add(place.name)
                try:
                    return self._read(place, names, notices)
                except Corrupt as reason:
                    if not place.is_dir():
                        continue  # deleted while it was read, as a newer one was saved
                    notices.append(f"{place} is damaged: {reason}.")
                    if mine:
                        self._set_aside(place, notices)
                except OSError as error:
                    notices.append(f"{place} cannot be read: {cause(error)}.")
        raise CheckpointError(self._nothing(step, notices))

    def steps(self) -> list[int]:
        """The steps that checkpoints claim to hold, ascending; none is verified."""
        return sorted({_step(place.name) for place in self._places()})

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from writing to this run; `save` by itself does so only meanwhile.

        Raises:
            RunError: another process writes to it; says which.
            CheckpointError: the folder cannot be written to.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._lock.held())
            except OSError as error:
                raise CheckpointError(f"{self.directory} cannot be written to: {cause(error)}.") from error
            yield

    def holder(self) -> str | None:
        """The process that keeps this run to itself, such as `process 4711 on ada`, or None."""
        return self._lock.holder()

    @property
    def used(self) -> bool:
        """Whether a process ever wrote here, or began to."""
        return self._lock.path.exists()

    def _commit(self, name: str, step: int, contents: Mapping[str, Iterable[bytes | memoryview]]) -> Path:
        """Write, rename, prove; or leave all as it was."""
        place = self.directory / name
        previous = self.directory / (name + _PREVIOUS)
        draft = self.directory / f"{_DRAFT}{name}-{os.getpid()}-{secrets.token_hex(4)}"
        placed = moved = False
        try:
            written = manifest.write(draft, step, contents)
            if place.is_dir():
                os.rename(place, previous)
                moved = True
            os.rename(draft, place)
            placed = True
            sync_directory(self.directory)
            self._read_back(place, written)
        except BaseException:
            with contextlib.suppress(OSError):
                if placed:
                    os.rename(place, draft)
                if moved:
                    os.rename(previous, place)
            shutil.rmtree(draft, ignore_errors=True)
            raise
        self._proven[name] = written
        if moved:
            self._delete(previous)
        return place

    def _read_back(self, place: Path, written: Manifest) -> None:
        from gptkit.train.tensor_file import names

        if manifest.prove(place) != written:
            raise Corrupt("its manifest is another one")
        for file in written.files:
            if file.endswith(".safetensors"):
                names(place / file)

    def _sweep(self) -> None:
        """Clear away what processes left that died while saving: this one holds the lock."""
        if not self._lock.certain:
            return
        for entry in os.listdir(self.directory):
            path = self.directory / entry
            if entry.startswith((_DRAFT, _TRASH)):
                shutil.rmtree(path, ignore_errors=True)
            elif entry.endswith(_PREVIOUS) and _PLACE.match(entry):
                place = path.with_name(entry.removesuffix(_PREVIOUS))
                if place.is_dir() and self._is_proven(place):
                    self._delete(path)
                elif not place.exists():
                    with contextlib.suppress(OSError):
                        os.rename(path, place)

    def _retain(self, newest: Path) -> None:
        """Delete all but the newest `keep` that are proven; the one just saved stays in any case."""
        good = 1
        for place in self._places():
            if place == newest:
                continue
            if good >= self.keep:
                self._delete(place)
            elif self._is_proven(place):
                good += 1

    def _is_proven(self, place: Path) -> bool:
        """Whether a checkpoint is whole; a damaged one is set aside."""
        if place.name in self._proven:
            return True
        try:
            self._proven[place.name] = manifest.prove(place, step=_step(place.name))
        except Corrupt as reason:
            self.notices.append(f"{place} is damaged: {reason}.")
            self._set_aside(place, self.notices)
            return False
        except OSError as error:
            self.notices.append(f"{place} cannot be read: {cause(error)}.")
            return False
        return True

    def _delete(self, place: Path) -> None:
        """Remove a checkpoint at once for all who look, then its files."""
        trash = self.directory / f"{_TRASH}{place.name}-{secrets.token_hex(4)}"
        try:
            os.rename(place, trash)
            self._proven.pop(place.name, None)
            shutil.rmtree(trash)
        except OSError as error:
            self.notices.append(f"The old checkpoint {place} could not be deleted: {cause(error)}.")

    def _set_aside(self, place: Path, notices: list[str]) -> None:
        """Rename a damaged checkpoint so that nobody takes it for a whole one; the lock is held."""
        aside = place.with_name(place.name + _CORRUPT)
        if aside.exists():
            aside = place.with_name(f"{place.name}{_CORRUPT}-{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            os.rename(place, aside)
            self._proven.pop(place.name, None)
            notices.append(f"It is kept as {aside.name}.")

    def _next(self, step: int | None, seen: set[str]) -> Path | None:
        """The newest folder not yet looked at; asked anew each time, since another process may save."""
        for place in self._places():
            if place.name not in seen and step in (None, _step(place.name)):
                return place
        return None

    def _read(self, place: Path, names: set[str] | None, notices: list[str]) -> Checkpoint:
        from gptkit.train.tensor_file import decode

        told = manifest.prove(place, names, _step(place.name))
        try:
            tensors = {
                file.removesuffix(".safetensors"): decode(place / file)
                for file in told.files
                if file.endswith(".safetensors") and (names is None or file in names)
            }
            state = manifest.read_json_file(place / "state.json")
        except FileNotFoundError as error:
            raise Corrupt(f"{Path(error.filename or place).name} is missing") from None
        except (CheckpointError, ValueError) as error:
            raise Corrupt(str(error)) from None
        if names is None:
            self._proven[place.name] = told
        return Checkpoint(told.step, tensors, state, place, tuple(notices))

    def _places(self) -> list[Path]:
        """The folders that claim to be checkpoints, the newest step first."""
        try:
            with os.scandir(self.directory) as entries:
                found = [e.name for e in entries if _PLACE.match(e.name) and e.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        found.sort(key=lambda name: (_step(name), not name.endswith(_PREVIOUS)), reverse=True)
        return [self.directory / name for name in found]

    def _refusal(self, step: int, error: OSError) -> str:
        with_room = ""
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self.directory if self.directory.exists() else Path.cwd()).free
            with_room = f" {free / 2**20:,.0f} MiB are free there."
        where = error.filename or self.directory
        return (
            f"The checkpoint of step {step} was not saved: {cause(error)} ({where}).{with_room} "
            f"{self._still_there(step)}"
        )

    def _still_there(self, step: int) -> str:
        steps = [other for other in self.steps() if other != step]
        return f"The one of step {steps[-1]} is still there." if steps else "There is no earlier one."

    def _nothing(self, step: int | None, notices: list[str]) -> str:
        asked = "" if step is None else f" of step {step}"
        if notices:
            return f"No checkpoint{asked} in {self.directory} can be used. " + " ".join(notices)
        known = ", ".join(map(str, self.steps()))
        there = f"There are those of steps {known}." if known else "None was saved yet."
        return f"There is no checkpoint{asked} in {self.directory}. {there}"


def _name(step: int) -> str:
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise CheckpointError(f"A checkpoint is of a whole number of steps, not of {step!r}.")
    return f"step-{step:06d}"


def _step(name: str) -> int:
    match = _PLACE.match(name)
    assert match is not None
    return int(match[1])


def _contents(
    tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> dict[str, Iterable[bytes | memoryview]]:
    """The files of a checkpoint as pieces of bytes; whatever cannot be kept is refused before any is written."""
    from gptkit.train.tensor_file import encode

    contents: dict[str, Iterable[bytes | memoryview]] = {}
    for group, members in tensors.items():
        if not _GROUP.match(group):
            raise CheckpointError(f"{group!r} cannot name a group of tensors; take a lower-case word.")
        contents[f"{group}.safetensors"] = encode(members)
    contents["state.json"] = [manifest.state_bytes(state)]
    return contents
