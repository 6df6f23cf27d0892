"""What the hardware could do at best, and how much memory was used."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from pathlib import Path

import torch

# Dense bfloat16 operations a second, from the makers' data sheets, without the factor 2 for sparsity;
# float16 where a chip has no bfloat16 (V100, T4). More particular names stand first.
CUDA_PEAKS: dict[str, float] = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H800": 989e12,
    "H20": 148e12,
    "A100": 312e12,
    "A800": 312e12,
    "A40": 149.7e12,
    "A30": 165e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 6000 Ada": 364e12,
    "RTX A6000": 154.8e12,
    "RTX 5090": 209.5e12,
    "RTX 4090": 165.2e12,
    "RTX 4080": 97.5e12,
    "RTX 3090": 71e12,
    "V100": 125e12,
    "T4": 65e12,
    "MI325X": 1307e12,
    "MI300X": 1307e12,
    "MI250X": 383e12,
}
_PARTIAL = re.compile(r"\b(MIG|Laptop|Max-Q|Mobile)\b")  # such a chip does less than its name says
_MEASURING = 0.12  # seconds


def peak_flops(device: torch.device | str, precision: str = "32") -> float | None:
    """Floating-point operations that one process of the device could do in a second, at most.

    A GPU's number is that of its data sheet, in bfloat16 whatever the precision, as is usual for MFU.
    A CPU's is measured, by square matrix products on the threads that torch uses now, and kept in the
    cache folder, unless something else kept the cores busy meanwhile.

    Args:
        device: where the model is.
        precision: `32` or `bf16`, what a CPU is measured in; the better of both for `bf16`, since
            many a CPU can hold bfloat16 and not compute in it.

    Returns:
        the number, or None where it is not known.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return cuda_peak(torch.cuda.get_device_name(device))
    if device.type != "cpu":
        return None
    key = " / ".join((_cpu_name(), f"{torch.get_num_threads()} threads", precision, torch.__version__))
    known = _remembered()
    if key not in known:
        known[key], undisturbed = _cpu_peak(precision)
        if undisturbed:
            _remember(known)
    return known[key]


def cuda_peak(name: str) -> float | None:
    """The data sheet's number for a GPU by the name its driver gives, or None for one not listed."""
    if _PARTIAL.search(name):
        return None
    return next((peak for known, peak in CUDA_PEAKS.items() if re.search(rf"\b{known}\b", name)), None)


def mfu(flops_per_token: float, tokens_per_second: float, peak: float | None, world: int = 1) -> float | None:
    """Model FLOPs utilisation (Chowdhery et al. 2022): what the model needs over what `world` devices could do."""
    return flops_per_token * tokens_per_second / (peak * world) if peak else None


def memory_bytes(device: torch.device | str) -> int:
    """The most memory used so far: allocated on a GPU, else resident in this process."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        # getrusage would count what the parent held before this program was started in its place.
        status = Path("/proc/self/status").read_text("ascii", "replace")
        return 1024 * int(status.split("VmHWM:", 1)[1].split(None, 1)[0])
    except (OSError, IndexError, ValueError):
        return _resident_peak()


def _resident_peak() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _cpu_peak(precision: str) -> tuple[float, bool]:
    """The best speed of one thread or of all, and whether all together were clearly faster than one."""
    kinds = (torch.float32, torch.bfloat16) if precision == "bf16" else (torch.float32,)
    threads = torch.get_num_threads()
    together = max(_measure(kind, _MEASURING / len(kinds)) for kind in kinds)
    if threads == 1:
        return together, True
    torch.set_num_threads(1)
    try:
        alone = max(_measure(kind, _MEASURING / 2 / len(kinds)) for kind in kinds)
    finally:
        torch.set_num_threads(threads)
    return max(together, alone), together > alone * (1 + threads) / 4


def _measure(dtype: torch.dtype, seconds: float) -> float:
    """The best of the matrix products that fit into a time, of a size that takes milliseconds."""
    best, size = 0.0, 256
    with torch.inference_mode():
        one = torch.ones(size, size, dtype=dtype)
        torch.mm(one, one)  # the first one also starts threads and loads kernels
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            torch.mm(one, one)
            took = time.perf_counter() - start
            best = max(best, 2 * size**3 / took)
            if size < 1024 and took < seconds / 40:
                size *= 2
                one = torch.ones(size, size, dtype=dtype)
    return best


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _cache_file() -> Path:
    root = os.environ.get("GPTKIT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "gptkit"
    return Path(root).expanduser() / "hardware.json"


def _remembered() -> dict[str, float]:
    try:
        known = json.loads(_cache_file().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in known.items() if isinstance(v, (int, float))} if isinstance(known, dict) else {}


def _remember(known: dict[str, float]) -> None:
    """Keep what was measured; a cache that cannot be written costs a measurement each time, no more."""
    path = _cache_file()
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(known, indent=2), "utf-8")
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
