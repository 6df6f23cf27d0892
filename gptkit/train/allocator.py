"""How the memory of a CPU's tensors is kept between steps.

glibc gives each large tensor back to the system when it is freed, and the system clears the same pages
again for the next one: on GPT-2 124M a quarter of a step. A training loop asks for the same sizes in
each step, so what was freed is kept for the next. This begins after the first step, when what lives as
long as the run is in place: the optimizer's state, made amid a step's own tensors, would leave gaps.

glibc before 2.38 may be unable to use a gap for an aligned tensor of the very size that left it, so the
heap could grow without end. Its size is watched, and everything is as before once it does.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # the numbers of glibc's mallopt
_MIB = 1 << 20
_LEARNING = 4  # steps after which the process should grow no more
_GROWTH = 1.25


class KeptMemory:
    """Keeps what a training process frees, for as long as that does not make it grow.

    Attributes:
        on: whether freed memory is kept now.
    """

    def __init__(self) -> None:
        self.on = False
        self._steps = self._needed = 0

    def after_step(self) -> None:
        """A step was made; some microseconds."""
        self._steps += 1
        if self._steps == 1:
            self.on = keep_freed_memory()
        elif self.on and self._steps <= _LEARNING:
            self._needed = max(self._needed, resident())
        elif self.on and resident() > _GROWTH * self._needed:
            give_freed_memory_back()
            self.on = False


def keep_freed_memory() -> bool:
    """Have this process keep the memory that it frees from now on, for its next tensors.

    Returns:
        Whether it was done: not where the environment already says how glibc is to allocate
        (`MALLOC_…`, `GLIBC_TUNABLES`), where another allocator is preloaded, or without glibc.
    """
    told = {"GLIBC_TUNABLES", "LD_PRELOAD"} & set(os.environ)
    if told or any(name.startswith("MALLOC_") for name in os.environ) or not resident():
        return False
    try:
        glibc = ctypes.CDLL("libc.so.6")
        glibc.malloc_trim(ctypes.c_size_t(0))
        return bool(glibc.mallopt(_M_MMAP_MAX, 0) and glibc.mallopt(_M_TRIM_THRESHOLD, -1))
    except (OSError, AttributeError):
        return False


def give_freed_memory_back() -> None:
    """Undo `keep_freed_memory`: no free page is kept, and tensors of 1 MiB or more are mapped, which leaves no gaps."""
    glibc = ctypes.CDLL("libc.so.6")
    glibc.mallopt(_M_MMAP_MAX, 65536)
    glibc.mallopt(_M_MMAP_THRESHOLD, _MIB)
    glibc.mallopt(_M_TRIM_THRESHOLD, 64 * _MIB)
    glibc.malloc_trim(ctypes.c_size_t(0))


def resident() -> int:
    """The bytes of memory that this process holds; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
