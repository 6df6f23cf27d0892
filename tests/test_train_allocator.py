"""Memory that is freed is kept for the next tensors, unless the environment says otherwise or it grows."""

import os
import subprocess
import sys
from platform import libc_ver

import pytest

from gptkit.train import allocator
from small_runs import trained

pytestmark = pytest.mark.skipif(libc_ver()[0] != "glibc", reason="a matter of glibc")

START = """
import resource, torch
from gptkit.train.allocator import KeptMemory, keep_freed_memory, resident
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
"""
KEEP = """
print(keep_freed_memory())
torch.ones(1 << 27)  # 512 MiB, where those of 40 MiB find their place
before = faults()
for _ in range(4): torch.ones(10 << 20)
print(faults() - before)
"""
GROW = """
held, memory = [], KeptMemory()
for step in range(60):
    torch.ones((1 << 22) + 4096 * step)  # 16 MiB and a page more each time: no gap is wide enough
    held.append(bytearray(600))
    held += [torch.ones(1 << 12) for _ in range(2)]
    memory.after_step()
    if step == 3: first = resident()
print(memory.on, resident() - first)
"""
PAGES = 4 * 40 * 2**20 // 4096


def run(script, **told):
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }
    done = subprocess.run(
        [sys.executable, "-c", START + script], env=clean | told, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    return done.stdout.split()


def test_the_next_tensor_finds_its_pages_there():
    kept, faults = run(KEEP)
    assert kept == "True"
    assert int(faults) < PAGES / 20


@pytest.mark.parametrize("told", [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}])
def test_what_the_environment_says_stands(told):
    kept, faults = run(KEEP, **told)
    assert kept == "False"
    assert int(faults) > PAGES / 1000  # huge pages are few


def test_a_process_that_grows_keeps_no_more():
    _, grown = run(GROW)
    assert int(grown) < 400 * 2**20  # kept to the end it may be a gigabyte


def test_keeping_ends_with_growth_alone(monkeypatch):
    sizes, calls = iter([100, 120, 110, 149, 151, 400]), []
    monkeypatch.setattr(allocator, "resident", lambda: next(sizes))
    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: calls.append("keep") or True)
    monkeypatch.setattr(allocator, "give_freed_memory_back", lambda: calls.append("give back"))
    memory = allocator.KeptMemory()
    for _ in range(5):
        memory.after_step()
    assert (memory.on, calls) == (True, ["keep"])
    for _ in range(3):
        memory.after_step()
    assert (memory.on, calls) == (False, ["keep", "give back"])


def test_training_on_a_cpu_asks_after_each_step(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(allocator.KeptMemory, "after_step", lambda self: calls.append(id(self)))
    trained(tmp_path, trainer__max_steps=3)
    assert len(calls) == 3
    assert len(set(calls)) == 1
