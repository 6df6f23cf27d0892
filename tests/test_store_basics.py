"""What is saved comes back as it was; what cannot is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from gptkit.errors import CheckpointError, RunError
from gptkit.train.store import CheckpointStore
from gptkit.train.tensor_file import decode, encode

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip


def groups(step: int) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(step)
    return {
        "model": {
            "a.weight": torch.randn(4, 3, generator=generator),
            "b": torch.randn(5, generator=generator),
        },
        "optimizer": {"exp_avg/b": torch.randn(5, generator=generator)},
    }


def same(left: dict[str, dict[str, torch.Tensor]], right: dict[str, dict[str, torch.Tensor]]) -> bool:
    return left.keys() == right.keys() and all(
        left[g].keys() == right[g].keys() and all(torch.equal(left[g][n], right[g][n]) for n in left[g])
        for g in left
    )


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    state = {"step": 7, "tokens": 2**60, "ratio": 0.1, "none": None, "list": [1, "é", {"x": True}]}
    place = store.save(7, groups(7), state)
    assert place == tmp_path / "run/checkpoints/step-000007"
    assert sorted(os.listdir(place)) == [
        "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json",
    ]  # fmt: skip
    found = CheckpointStore(tmp_path / "run" / "checkpoints").load()
    assert (found.step, found.state, found.path, found.notices) == (7, state, place, ())
    assert same(found.tensors, groups(7))


def test_every_kind_of_tensor_and_the_library_agree(tmp_path: Path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for dtype in DTYPES:
        whole = (torch.rand(3, 5) * 4).to(dtype)
        name = str(dtype)
        tensors |= {name: whole, f"{name}/transposed": whole.t(), f"{name}/scalar": whole[1, 2].clone()}
        tensors |= {
            f"{name}/none": whole[:0],
            f"{name}/every other": whole[:, ::2],
            f"{name}/one": whole[1:2],
        }
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"".join(bytes(piece) for piece in encode(tensors)))
    found = decode(path)
    with safe_open(str(path), framework="pt") as file:
        for name, tensor in tensors.items():
            for other in (found[name], file.get_tensor(name)):
                assert other.dtype == tensor.dtype
                assert other.shape == tensor.shape
                assert _bits(other) == _bits(tensor), name


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda n: n != "__metadata__"),
        st.tuples(st.lists(st.integers(0, 4), max_size=4), st.sampled_from(DTYPES)),
        max_size=6,
    )
)
def test_any_names_and_shapes_come_back(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict[str, tuple[list[int], torch.dtype]]
) -> None:
    tensors = {name: torch.ones(shape).mul(3).to(dtype) for name, (shape, dtype) in kinds.items()}
    store = CheckpointStore(tmp_path_factory.mktemp("any") / "c")
    store.save(0, {"model": tensors}, {})
    found = store.load().tensors["model"]
    assert found.keys() == tensors.keys()
    assert all(found[n].shape == t.shape and _bits(found[n]) == _bits(t) for n, t in tensors.items())


def test_a_shared_tensor_is_kept_once_and_is_one_again(tmp_path: Path) -> None:
    table = torch.randn(100, 8)
    store = CheckpointStore(tmp_path / "c")
    place = store.save(1, {"model": {"head": table, "embedding": table.data, "part": table[:50]}}, {})
    assert (place / "model.safetensors").stat().st_size < 150 * 8 * 4 + 600
    found = store.load().tensors["model"]
    assert found["head"] is found["embedding"]
    assert torch.equal(found["head"], table)
    assert found["part"].untyped_storage().data_ptr() != found["head"].untyped_storage().data_ptr()
    found["part"].zero_()
    assert torch.equal(found["head"], table)


def test_loaded_tensors_do_not_hang_on_the_file(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c")
    place = store.save(1, groups(1), {})
    found = store.load()
    size = (place / "model.safetensors").stat().st_size
    (place / "model.safetensors").write_bytes(bytes(size))
    assert same(found.tensors, groups(1))


@pytest.mark.parametrize("name", ["größe été", "日本語", "with 'quotes\" and = , $x", "a" * 100])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    store = CheckpointStore(tmp_path / name / "checkpoints")
    store.save(3, groups(3), {"where": name})
    assert same(store.load().tensors, groups(3))


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.zeros(2, device="meta"), "meta device"),
        (torch.eye(3).to_sparse(), "dense"),
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
        ([1.0], "list"),
    ],
)
def test_a_tensor_that_cannot_be_kept_is_named(tmp_path: Path, tensor: torch.Tensor, said: str) -> None:
    store = CheckpointStore(tmp_path / "c")
    store.save(1, groups(1), {})
    with pytest.raises(CheckpointError, match=f"'odd'.*{said}"):
        store.save(2, {"model": {"odd": tensor}}, {})
    assert store.steps() == [1]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"optimizer": {0: 1}}, r"state.optimizer: the key 0"),
        ({"loss": float("nan")}, r"state.loss is nan"),
        ({"best": [1.0, float("inf")]}, r"state.best\[1\] is inf"),
        ({"x": torch.zeros(1)}, r"state.x is a Tensor"),
        ({"x": {1, 2}}, r"state.x is a set"),
        ({"x": "\ud800"}, "surrogate"),
        ({"x": 10**50}, "too large"),
    ],
)
def test_a_state_that_json_would_change_is_refused(tmp_path: Path, state: dict, said: str) -> None:
    store = CheckpointStore(tmp_path / "c")
    with pytest.raises(CheckpointError, match=said):
        store.save(1, {}, state)
    assert store.steps() == []


@pytest.mark.parametrize("group", ["Model", "../x", "a/b", "", "x.y", "état"])
def test_a_group_is_a_plain_word(tmp_path: Path, group: str) -> None:
    with pytest.raises(CheckpointError, match="cannot name a group"):
        CheckpointStore(tmp_path / "c").save(1, {group: {}}, {})


def test_steps_order_checkpoints_and_times_do_not(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c", keep=9)
    for step in (999_999, 5, 1_000_000, 20):
        store.save(step, groups(step), {"step": step})
        os.utime(store.directory / f"step-{step:06d}", (2e9 - step, 2e9 - step))
    assert store.steps() == [5, 20, 999_999, 1_000_000]
    assert store.load().state == {"step": 1_000_000}
    assert store.load(20).state == {"step": 20}
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 21 .* 5, 20, 999999, 1000000"):
        store.load(21)


@pytest.mark.parametrize(("keep", "left"), [(1, 2), (2, 2), (3, 3)])
def test_the_newest_stay(tmp_path: Path, keep: int, left: int) -> None:
    store = CheckpointStore(tmp_path / "c", keep=keep)
    for step in range(10, 70, 10):
        store.save(step, groups(step), {})
        assert same(store.load().tensors, groups(step))
    assert store.steps() == list(range(10, 70, 10))[-left:]
    assert sorted(os.listdir(store.directory)) == [".lock", *(f"step-{s:06d}" for s in store.steps())]


def test_a_damaged_checkpoint_counts_for_nothing_when_old_ones_go(tmp_path: Path) -> None:
    CheckpointStore(tmp_path / "c", keep=3).save(1, groups(1), {})
    CheckpointStore(tmp_path / "c", keep=3).save(2, groups(2), {})
    victim = tmp_path / "c/step-000002/model.safetensors"
    victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    store = CheckpointStore(tmp_path / "c")
    store.save(3, groups(3), {})
    assert store.steps() == [1, 3]
    assert "step-000002 is damaged: model.safetensors was changed" in store.notices[0]
    assert (tmp_path / "c/step-000002.corrupt").is_dir()


def test_a_step_below_others_survives_its_own_saving(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c")
    for step in (100, 200, 50):
        store.save(step, groups(step), {})
    assert same(store.load(50).tensors, groups(50))


def test_the_same_step_again_replaces(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c")
    store.save(1, groups(1), {"try": 1})
    store.save(1, groups(2), {"try": 2})
    assert same(store.load().tensors, groups(2))
    assert sorted(os.listdir(store.directory)) == [".lock", "step-000001"]


def test_some_groups_alone_are_read_and_checked(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c")
    place = store.save(1, groups(1), {"x": 1})
    (place / "optimizer.safetensors").unlink()
    found = store.load(groups=["model"])
    assert found.tensors.keys() == {"model"}
    assert found.state == {"x": 1}
    with pytest.raises(CheckpointError, match="holds no ema"):
        store.load(groups=["ema"], quarantine=False)


def test_nothing_there(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c")
    assert store.steps() == []
    with pytest.raises(CheckpointError, match="None was saved yet"):
        store.load()
    assert not store.directory.exists()


def test_other_things_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c")
    store.save(1, groups(1), {})
    (tmp_path / "c/step-2").mkdir()
    (tmp_path / "c/step-000003").write_text("a file")
    (tmp_path / "c/step-000004").symlink_to(tmp_path / "c/step-000001")
    (tmp_path / "c/notes.txt").write_text("mine")
    store.save(5, groups(5), {})
    store.save(6, groups(6), {})
    assert store.steps() == [5, 6]
    assert {"step-2", "step-000003", "step-000004", "notes.txt"} < set(os.listdir(store.directory))


def test_manifest_tells_size_and_digest(tmp_path: Path) -> None:
    import hashlib

    place = CheckpointStore(tmp_path / "c").save(1, groups(1), {})
    told = json.loads((place / "manifest.json").read_text())
    assert told["step"] == 1
    for name, entry in told["files"].items():
        data = (place / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


HOLD = """
import sys, time
from gptkit.train.store import CheckpointStore
with CheckpointStore(sys.argv[1]).exclusive():
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c")
    store.save(1, groups(1), {})
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert store.holder() is not None
        assert f"process {child.pid} " in str(store.holder())
        with pytest.raises(RunError, match=f"being written by process {child.pid} "):
            store.save(2, groups(2), {})
        with pytest.raises(RunError), store.exclusive():
            pass
        assert store.load().step == 1
        _spoil(store.directory / "step-000001/state.json")
        with pytest.raises(CheckpointError, match="damaged"):
            store.load()
        assert (store.directory / "step-000001").is_dir(), "set aside though another process writes"
    finally:
        child.kill()
        child.wait()
    assert store.holder() is None
    with store.exclusive():
        store.save(2, groups(2), {})
        assert str(os.getpid()) in str(store.holder())
        assert CheckpointStore(store.directory).holder() is not None
    assert store.holder() is None


def _spoil(path: Path) -> None:
    path.write_bytes(b"?" + path.read_bytes()[1:])


WORKERS = """
import os, sys, time
from gptkit.train.store import CheckpointStore
with CheckpointStore(sys.argv[1]).exclusive():
    if os.fork() == 0:
        print("forked", os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(60)
"""


def test_a_killed_process_frees_its_lock_though_its_workers_live(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WORKERS, str(tmp_path / "c")], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    worker = int(child.stdout.readline().split()[1])
    store = CheckpointStore(tmp_path / "c")
    try:
        assert store.holder() is not None
        child.kill()
        child.wait()
        os.kill(worker, 0)
        assert store.holder() is None
        store.save(1, groups(1), {})
    finally:
        os.kill(worker, 9)


def test_threads_may_save_at_once(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c", keep=9)
    errors: list[BaseException] = []

    def work(step: int) -> None:
        try:
            store.save(step, groups(step), {"step": step})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(step,)) for step in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert store.steps() == [1, 2, 3, 4, 5]
    assert all(same(store.load(step).tensors, groups(step)) for step in store.steps())


def test_listing_needs_no_torch(tmp_path: Path) -> None:
    CheckpointStore(tmp_path / "c").save(4, groups(4), {})
    code = (
        "import sys\nfrom gptkit.train.store import CheckpointStore\n"
        "assert CheckpointStore(sys.argv[1]).steps() == [4]\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "c")], check=True)
