"""Damage of every kind is found, told by name, and stepped over."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import faults
from gptkit.errors import CheckpointError
from gptkit.train import manifest
from gptkit.train.store import CheckpointStore

FILES = ("manifest.json", "model.safetensors", "optimizer.safetensors", "state.json")
TRIALS = 12


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with faults.quick_folder() as folder:
        yield folder


def flip_a_bit(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def zero_a_page(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = draw.randrange(0, len(data), 4096)
    stop = min(start + 4096, len(data))
    data[start:stop] = bytes(stop - start)
    path.write_bytes(data)


def delete(path: Path, draw: random.Random) -> None:
    path.unlink()


def append(path: Path, draw: random.Random) -> None:
    with path.open("ab") as file:
        file.write(draw.randbytes(draw.randrange(1, 50)))


def put_the_last_one_in_its_place(path: Path, draw: random.Random) -> None:
    older = path.parent.with_name("step-000001") / path.name
    path.write_bytes(older.read_bytes())


KINDS: list[Callable[[Path, random.Random], None]] = [
    flip_a_bit, truncate, zero_a_page, delete, append, put_the_last_one_in_its_place,
]  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "checkpoints"
    store = CheckpointStore(folder)
    for step in (1, 2):
        generator = torch.Generator().manual_seed(step)
        tensors = {"w": torch.randn(64, 40, generator=generator), "b": torch.randn(40, generator=generator)}
        moments = {f"m/{name}": tensor * 2 for name, tensor in tensors.items()}
        store.save(step, {"model": tensors, "optimizer": moments}, {"step": step, "text": "x" * 99})
    return folder


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damage_is_found_and_stepped_over(
    good: Path, tmp_path: Path, kind: Callable[[Path, random.Random], None], name: str
) -> None:
    damage(good, tmp_path, kind, name, 3 if kind in (delete, put_the_last_one_in_its_place) else TRIALS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damage_a_thousand_times(
    good: Path, tmp_path: Path, kind: Callable[[Path, random.Random], None]
) -> None:
    for name in FILES:
        damage(good, tmp_path, kind, name, 250)


def damage(
    good: Path, tmp_path: Path, kind: Callable[[Path, random.Random], None], name: str, trials: int
) -> None:
    """Damage the newest checkpoint again and again; each time the one before must be loaded."""
    draw = random.Random(f"{kind.__name__} {name}")
    for _ in range(trials):
        folder = tmp_path / "c"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good, folder)
        kind(folder / "step-000002" / name, draw)
        found = CheckpointStore(folder).load()
        assert found.step == 1
        assert found.state["step"] == 1
        assert "step-000002 is damaged: " in found.notices[0]
        assert ("manifest" if name == "manifest.json" else name) in found.notices[0] or kind is truncate
        assert "kept as step-000002.corrupt" in found.notices[1]
        assert (folder / "step-000002.corrupt").is_dir()
        assert CheckpointStore(folder).load().notices == ()


def test_a_whole_stale_folder_under_a_new_name(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(good, folder)
    shutil.rmtree(folder / "step-000002")
    shutil.copytree(folder / "step-000001", folder / "step-000002")
    found = CheckpointStore(folder).load()
    assert found.step == 1
    assert "its manifest is that of step 1" in found.notices[0]


def test_the_asked_step_is_given_or_none(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(good, folder)
    flip_a_bit(folder / "step-000002/model.safetensors", random.Random(1))
    with pytest.raises(CheckpointError, match=r"No checkpoint of step 2 .* model.safetensors was changed"):
        CheckpointStore(folder).load(2)
    assert (folder / "step-000002").is_dir(), "asking for one step changes nothing"


def test_nothing_whole_is_left(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(good, folder)
    for step in (1, 2):
        delete(folder / f"step-00000{step}/state.json", random.Random(1))
    with pytest.raises(CheckpointError) as told:
        CheckpointStore(folder).load(quarantine=False)
    assert str(told.value).count("state.json is missing") == 2
    assert CheckpointStore(folder).steps() == [1, 2]


def test_a_second_damaged_one_of_a_step_gets_a_name_of_its_own(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(good, folder)
    shutil.copytree(good / "step-000002", folder / "step-000002.corrupt")
    delete(folder / "step-000002/state.json", random.Random(1))
    CheckpointStore(folder).load()
    assert sum(name.startswith("step-000002.corrupt") for name in os.listdir(folder)) == 2


def test_where_nothing_may_be_renamed_it_is_passed_over(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "c"
    shutil.copytree(good, folder)
    delete(folder / "step-000002/state.json", random.Random(1))
    opened = os.open

    def read_only(path: str, flags: int, *more: int, **options: int) -> int:
        if flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, flags, *more, **options)

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "rename", refuse)
    found = CheckpointStore(folder).load()
    assert found.step == 1
    assert len(found.notices) == 1


def test_what_cannot_be_read_is_passed_over_and_kept(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is no proof of damage: the bytes may be right."""
    folder = tmp_path / "c"
    shutil.copytree(good, folder)
    real = manifest.open_plain

    def refuse(path: Path) -> int:
        if path.parts[-2:] == ("step-000002", "model.safetensors"):
            raise OSError(errno.EIO, "I/O error")
        return real(path)

    monkeypatch.setattr(manifest, "open_plain", refuse)
    found = CheckpointStore(folder).load()
    assert found.step == 1
    assert "cannot be read: the disk reported an input/output error" in found.notices[0]
    assert (folder / "step-000002").is_dir()


def test_a_checkpoint_deleted_while_it_is_read_is_no_damage(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "c"
    shutil.copytree(good, folder)
    prove = manifest.prove

    def race(place: Path, names: object = None, step: int | None = None) -> manifest.Manifest:
        if place.name == "step-000002":  # a newer one came, this one went
            newer = manifest.Manifest(3, prove(place).files)
            os.rename(place, folder / "step-000003")
            (folder / "step-000003/manifest.json").write_bytes(newer.dump())
        return prove(place, names, step)  # type: ignore[arg-type]

    monkeypatch.setattr(manifest, "prove", race)
    found = CheckpointStore(folder).load(quarantine=False)
    assert (found.step, found.notices) == (3, ())


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_a_checkpoint_is_not_followed(good: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "c"
    shutil.copytree(good, folder)
    target = folder / "step-000002" / name
    target.rename(tmp_path / "elsewhere")
    target.symlink_to(tmp_path / "elsewhere")
    found = CheckpointStore(folder).load()
    assert found.step == 1
    assert "symbolic link" in found.notices[0]


def test_a_pipe_in_a_checkpoint_does_not_hang(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(good, folder)
    (folder / "step-000002/state.json").unlink()
    os.mkfifo(folder / "step-000002/state.json")
    found = CheckpointStore(folder).load()
    assert "not a plain file" in found.notices[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda told: {**told, "files": {"../x.json": told["files"]["state.json"], **told["files"]}},
        lambda told: {**told, "files": {"x.pt": told["files"]["state.json"]}},
        lambda told: {**told, "step": "2"},
        lambda told: {**told, "step": True},
        lambda told: {**told, "files": {"state.json": {"bytes": "9", "sha256": "0"}}},
        lambda told: {**told, "files": []},
        lambda told: {**told, "format": 2},
        lambda told: [],
        lambda told: {"step": 2},
    ],
)
def test_a_manifest_that_lies_in_good_form(good: Path, tmp_path: Path, change: Callable) -> None:
    """Made anew with its own digest, as one who means harm would."""
    import hashlib
    import json

    folder = tmp_path / "c"
    shutil.copytree(good, folder)
    path = folder / "step-000002/manifest.json"
    told = json.loads(path.read_text())
    del told["sha256"]
    told = change(told)
    if isinstance(told, dict):
        told["sha256"] = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    path.write_text(json.dumps(told, indent=1) + "\n")
    found = CheckpointStore(folder).load()
    assert found.step == 1
    assert "damaged" in found.notices[0]
