"""How the memory of a CPU's tensors is kept between steps.

glibc gives each large tensor back to the system when it is freed, and the system clears the same pages
again for the next one: on GPT-2 124M a quarter of a step. A training loop asks for the same sizes in
each step, so what was freed is kept for the next. This begins after the first step, when what lives as
long as the run is in place: the optimizer's state, made amid a step's own tensors, would leave gaps.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # the numbers of glibc's mallopt


def keep_freed_memory() -> bool:
    """Have this process keep the memory that it frees from now on, for its next tensors.

    Returns:
        Whether it was done: not where the environment already says how glibc is to allocate
        (`MALLOC_…`, `GLIBC_TUNABLES`), where another allocator is preloaded, or without glibc.
    """
    told = {"GLIBC_TUNABLES", "LD_PRELOAD"} & set(os.environ)
    if told or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        glibc = ctypes.CDLL("libc.so.6")
        glibc.malloc_trim(ctypes.c_size_t(0))
        return bool(glibc.mallopt(_M_MMAP_MAX, 0) and glibc.mallopt(_M_TRIM_THRESHOLD, -1))
    except (OSError, AttributeError):
        return False
