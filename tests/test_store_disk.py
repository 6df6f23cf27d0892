"""The same faults from the system itself: a full disk, a limit, kills at system calls."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gptkit.errors import CheckpointError
from gptkit.train.store import CheckpointStore

FULL = """
import os, sys, torch
from gptkit.errors import CheckpointError
from gptkit.train.store import CheckpointStore
store = CheckpointStore(sys.argv[1] + "/checkpoints")
small, large = ({"model": {"w": torch.ones(n)}} for n in (100, 100_000))
store.save(1, small, {"step": 1})
for step in range(2, 6):
    try:
        store.save(step, large, {})
        sys.exit("saved more than fits")
    except CheckpointError as error:
        assert "the disk is full" in str(error), error
        assert "step 1 is still there" in str(error), error
assert sorted(os.listdir(store.directory)) == [".lock", "step-000001"]
assert CheckpointStore(store.directory).load().state == {"step": 1}
store.save(6, small, {})
print("survived")
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """A tmpfs of 128 KiB, where mounting one is allowed."""
    mount = f'mount -t tmpfs -o size=128k none {tmp_path} && exec {sys.executable} -c "$1" {tmp_path}'
    if shutil.which("unshare") is None or _fails(f"mount -t tmpfs none {tmp_path}"):
        pytest.skip("mounting in a namespace is not allowed here")
    command = ["unshare", "-m", "sh", "-c", mount, "sh", FULL]
    told = subprocess.run(command, capture_output=True, text=True, cwd=Path.cwd())
    assert told.stdout.strip() == "survived", told.stderr


def _fails(mount: str) -> bool:
    return subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode != 0


LIMITED = """
import resource, sys, torch
from gptkit.errors import CheckpointError
from gptkit.train.store import CheckpointStore
store = CheckpointStore(sys.argv[1])
store.save(1, {"model": {"w": torch.ones(100)}}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    store.save(2, {"model": {"w": torch.ones(100_000)}}, {})
except CheckpointError as error:
    print(error)
"""


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "c")], capture_output=True, text=True
    )
    assert "a file may not grow so large here" in told.stdout, told.stderr
    assert sorted(os.listdir(tmp_path / "c")) == [".lock", "step-000001"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c")
    store.save(1, {}, {})
    (tmp_path / "c").chmod(0o555)
    with pytest.raises(CheckpointError, match="permission denied"):
        store.save(2, {}, {})
    assert store.load().step == 1


CALLS = "openat,write,pwrite64,fsync,mkdir,rename,unlink,unlinkat,rmdir,ftruncate,fadvise64,flock"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_kill_at_every_system_call(tmp_path: Path) -> None:
    """A real SIGKILL at each call of a third save, injected by strace into a forked child."""
    base = tmp_path / "base"
    for step in (1, 2):
        CheckpointStore(base).save(step, _tensors(step), {"step": step})
    work = shutil.copytree(base, tmp_path / "work")
    log = _traced(work, tmp_path / "log", f"trace={CALLS}")
    if "attach" in log and "not permitted" in log.lower():
        pytest.skip("tracing is not allowed here")
    count = len(re.findall(rf"^(?:{CALLS.replace(',', '|')})\(", log, re.MULTILINE))
    assert count > 30
    outcomes = []
    for number in range(1, count + 1):
        shutil.rmtree(work)
        shutil.copytree(base, work)
        _traced(work, tmp_path / "log", f"inject={CALLS}:signal=KILL:when={number}")
        found = CheckpointStore(work).load(quarantine=False)
        assert found.state == {"step": found.step}
        assert torch.equal(found.tensors["model"]["w"], _tensors(found.step)["model"]["w"])
        outcomes.append(found.step)
        CheckpointStore(work).save(9, _tensors(9), {"step": 9})
        assert all(name == ".lock" or re.fullmatch(r"step-\d+", name) for name in os.listdir(work))
    assert sorted(outcomes) == outcomes
    assert set(outcomes) == {2, 3}


def _tensors(step: int) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "model": {"w": torch.full((50,), float(step))},
        "optimizer": {"m": torch.full((50,), -1.0 * step)},
    }


def _traced(work: Path, log: Path, what: str) -> str:
    """Save step 3 in a child under strace; returns what strace wrote."""
    log.write_text("")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(read, 1)
        CheckpointStore(work).save(3, _tensors(3), {"step": 3})
        os._exit(0)
    tracer = subprocess.Popen(["strace", "-o", str(log), "-e", what, "-p", str(pid)], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 10
        while _tracer_of(pid) == 0 and tracer.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        os.write(write, b"x")
        os.waitpid(pid, 0)
    finally:
        os.close(read)
        os.close(write)
        tracer.send_signal(signal.SIGTERM) if tracer.poll() is None else None
        said = tracer.communicate(timeout=10)[1].decode()
    return log.read_text() + said


def _tracer_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("TracerPid:"):
            return int(line.split()[1])
    return 0
