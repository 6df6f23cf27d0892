"""Memory that is freed is kept for the next tensors, unless the environment says otherwise."""

import os
import subprocess
import sys
from platform import libc_ver

import pytest

pytestmark = pytest.mark.skipif(libc_ver()[0] != "glibc", reason="a matter of glibc")

LOOK = """
import resource, sys, torch
from gptkit.train.allocator import keep_freed_memory
print(keep_freed_memory())
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3): torch.ones(1 << 24)
before = faults()
for _ in range(4): torch.ones(1 << 24)
print(faults() - before)
"""


def looked(**told):
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }
    done = subprocess.run([sys.executable, "-c", LOOK], env=clean | told, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


def test_the_next_tensor_finds_its_pages_there():
    kept, faults = looked()
    assert kept
    assert faults < 4 * 2**26 / 4096 / 20  # given back each time, it would be 16,384 pages each


@pytest.mark.parametrize("told", [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}])
def test_what_the_environment_says_stands(told):
    kept, faults = looked(**told)
    assert not kept
    assert faults > 4  # as glibc does of itself: at least a page table each time, huge pages or not
