"""Kills, refusals and power cuts at every operation of a save: what was acknowledged is never lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import faults
from gptkit.errors import CheckpointError
from gptkit.train import manifest
from gptkit.train import store as store_module
from gptkit.train.store import CheckpointStore

Groups = dict[str, dict[str, torch.Tensor]]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with faults.quick_folder() as folder:
        yield folder


def groups(step: int, attempt: int = 0) -> Groups:
    return {
        "model": {"w": torch.full((6,), step + attempt / 10)},
        "optimizer": {"m/w": torch.full((6,), -1.0 * step)},
    }


def is_whole(store: CheckpointStore, step: int, attempt: int = 0) -> bool:
    found = store.load(quarantine=False)
    expected = groups(step, attempt)
    return (
        found.step == step
        and found.state == {"step": step, "try": attempt}
        and all(
            torch.equal(found.tensors[g][n], t) for g, members in expected.items() for n, t in members.items()
        )
    )


def save(folder: Path, step: int, attempt: int = 0) -> Path:
    return CheckpointStore(folder).save(step, groups(step, attempt), {"step": step, "try": attempt})


@pytest.fixture(params=["first", "third", "again"])
def scene(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Path, Callable[[Path], Any], tuple, tuple]]:
    """A folder, a save into it, and (step, attempt) of the newest before and after."""
    base = tmp_path / "base"
    base.mkdir()
    if request.param == "first":
        yield base, lambda folder: save(folder, 1), (), (1, 0)
        return
    save(base, 1)
    save(base, 2)
    if request.param == "third":
        yield base, lambda folder: save(folder, 3), (2, 0), (3, 0)
    else:
        yield base, lambda folder: save(folder, 2, 1), (2, 0), (2, 1)


def fresh(base: Path, work: Path) -> Path:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    return work


def newest(folder: Path, *candidates: tuple) -> tuple:
    """Which of the (step, attempt) the folder gives back, whole; () for none where that is allowed."""
    store = CheckpointStore(folder)
    try:
        found = store.load(quarantine=False)
    except CheckpointError:
        assert () in candidates, f"lost everything: {sorted(os.listdir(folder))}"
        return ()
    what = (found.step, found.state["try"])
    assert what in candidates
    assert is_whole(store, *what)
    return what


def is_tidy(folder: Path) -> bool:
    return all(
        name == ".lock" or (name.startswith("step-") and "." not in name) for name in os.listdir(folder)
    )


def test_a_kill_at_every_operation(scene: tuple, tmp_path: Path) -> None:
    base, work, before, after = scene
    counted = fresh(base, tmp_path / "count")
    count = len(faults.operations(lambda: work(counted)))
    assert count > 30
    outcomes = []
    for number in range(1, count + 1):
        folder = fresh(base, tmp_path / "work")
        assert faults.killed_at(number, lambda folder=folder: work(folder))
        outcomes.append(newest(folder, before, after))
        save(folder, 9)
        assert newest(folder, (9, 0)) == (9, 0)
        assert is_tidy(folder), sorted(os.listdir(folder))
    turned = outcomes.index(after)
    assert set(outcomes[:turned]) == {before}, "until the rename it is the old one"
    assert set(outcomes[turned:]) == {after}, "from then on the new one"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_refusal_at_every_operation(scene: tuple, tmp_path: Path, number: int, lasting: bool) -> None:
    base, work, before, after = scene
    names = faults.FULL
    counted = fresh(base, tmp_path / "count")
    count = len(faults.operations(lambda: work(counted), names))
    saved = refused = 0
    for at in range(1, count + 1):
        folder = fresh(base, tmp_path / "work")

        def refuse(n: int, name: str, arguments: tuple, at: int = at, folder: Path = folder) -> None:
            if n == at or (lasting and n > at):
                raise OSError(number, os.strerror(number), str(folder))

        with faults.watched(refuse, names):
            try:
                work(folder)
                told = None
            except CheckpointError as error:
                told = str(error)
        if told is None:
            saved += 1
            assert newest(folder, after)
        else:
            refused += 1
            assert store_module.cause(OSError(number, "")) in told
            assert f"checkpoint of step {after[0]} was not saved" in told
            if before:
                assert f"step {2 if before[0] < after[0] else 1} is still there" in told
            if not lasting:
                assert newest(folder, before, after) in (
                    (before, after) if before[:1] == after[:1] else (before,)
                )
                assert is_tidy(folder), sorted(os.listdir(folder))
        newest(folder, before, after)
        save(folder, 9)
        assert newest(folder, (9, 0)) == (9, 0)
        assert is_tidy(folder), sorted(os.listdir(folder))
    assert refused > saved


def test_an_fsync_that_failed_is_never_tried_again(tmp_path: Path) -> None:
    save(tmp_path / "c", 1)
    synced: list[tuple[int, int]] = []
    failed: list[tuple[int, int]] = []
    save(tmp_path / "other", 1)
    total = faults.operations(lambda: save(tmp_path / "other", 2)).count("fsync")
    for at in range(1, total + 1):
        synced.clear()
        failed.clear()

        def fail(n: int, name: str, arguments: tuple, at: int = at) -> None:
            status = os.fstat(arguments[0])
            synced.append((status.st_dev, status.st_ino))
            if n == at:
                failed.append(synced[-1])
                raise OSError(errno.EIO, "I/O error")

        with faults.watched(fail, ("fsync",)), pytest.raises(CheckpointError, match="input/output error"):
            save(tmp_path / "c", 2)
        assert synced.count(failed[0]) == 1
        assert newest(tmp_path / "c", (1, 0))


def test_bytes_that_read_back_wrong_are_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that says yes and keeps something else."""
    save(tmp_path / "c", 1)
    write = os.write

    def lie(descriptor: int, data: Any) -> int:
        spoilt = bytearray(data)
        spoilt[len(spoilt) // 2] ^= 1
        return write(descriptor, spoilt)

    for at in range(1, 5):
        count = 0

        def sometimes(descriptor: int, data: Any, at: int = at) -> int:
            nonlocal count
            count += 1
            return lie(descriptor, data) if count == at else write(descriptor, data)

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", sometimes)
            with pytest.raises(CheckpointError, match=r"reads back wrong.*step 1 is still there"):
                save(tmp_path / "c", 2)
        assert newest(tmp_path / "c", (1, 0))
        assert is_tidy(tmp_path / "c")


def test_a_disk_that_takes_few_bytes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:7])))
    save(tmp_path / "c", 1)
    assert is_whole(CheckpointStore(tmp_path / "c"), 1)


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    save(tmp_path / "c", 1)
    save(tmp_path / "other", 1)
    count = len(faults.operations(lambda: save(tmp_path / "other", 2)))
    for at in range(6, count):

        def interrupt(n: int, name: str, arguments: tuple, at: int = at) -> None:
            if n == at:
                raise KeyboardInterrupt

        shutil.rmtree(tmp_path / "c")
        save(tmp_path / "c", 1)
        with faults.watched(interrupt), contextlib.suppress(KeyboardInterrupt):
            save(tmp_path / "c", 2)
        newest(tmp_path / "c", (1, 0), (2, 0))


def power_cuts(tmp_path: Path) -> tuple[int, int]:
    """How many states a power cut can leave over four saves, and in how many an acknowledged one is lost."""
    folder = tmp_path / "disk"
    folder.mkdir()
    journal = faults.Journal(folder)
    store = CheckpointStore(folder / "checkpoints")
    with journal.recording():
        for step, attempt in ((1, 0), (2, 0), (3, 0), (3, 1)):
            store.save(step, groups(step, attempt), {"step": step, "try": attempt})
            journal.acknowledge((step, attempt))
    lost = states = 0
    for said, tree in journal.crashes():
        states += 1
        faults.materialise(tree, tmp_path / "after")
        try:
            found = CheckpointStore(tmp_path / "after/checkpoints").load(quarantine=False)
            what = (found.step, found.state["try"])
            assert is_whole(CheckpointStore(tmp_path / "after/checkpoints"), *what)
        except CheckpointError:
            what = (0, 0)
        lost += said is not None and what < said
    return states, lost


def test_a_power_cut_loses_nothing_acknowledged(tmp_path: Path) -> None:
    states, lost = power_cuts(tmp_path)
    assert states > 100
    assert lost == 0


class Forgetful:
    """The `os` module without fsync."""

    def __getattr__(self, name: str) -> Any:
        return (lambda descriptor: None) if name == "fsync" else getattr(os, name)


@pytest.mark.parametrize("fault", ["no file is synced", "no folder is synced", "old ones go first"])
def test_the_power_cut_model_sees_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The same count with a defect planted: it must find losses, else it proves nothing."""
    if fault == "no folder is synced":
        monkeypatch.setattr(store_module, "sync_directory", lambda path: None)
        monkeypatch.setattr(manifest, "sync_directory", lambda path: None)
    elif fault == "no file is synced":
        monkeypatch.setattr(manifest, "os", Forgetful())
    else:
        commit = CheckpointStore._commit

        def hasty(self: CheckpointStore, *arguments: Any) -> Path:
            for place in self._places():
                self._delete(place)
            return commit(self, *arguments)

        monkeypatch.setattr(CheckpointStore, "_commit", hasty)
    states, lost = power_cuts(tmp_path)
    assert lost > 0, f"{states} states"
