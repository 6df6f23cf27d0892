"""What the hardware could do: the table of GPUs, the measured CPU, memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gptkit.train import hardware


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("Tesla V100-SXM2-16GB", 125e12),
        ("Tesla T4", 65e12),
        ("AMD Instinct MI300X", 1307e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("A chip of tomorrow", None),
    ],
)
def test_peaks_by_name(name: str, peak: float | None) -> None:
    assert hardware.cuda_peak(name) == peak


def test_cpu_is_measured_quickly_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTKIT_CACHE", str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        hardware.peak_flops("cpu")
        (tmp_path / "hardware.json").unlink()
        start = time.perf_counter()
        peak = hardware.peak_flops(torch.device("cpu"))
        assert time.perf_counter() - start < 0.5
        assert peak is not None
        assert peak > 1e8
        assert list(json.loads((tmp_path / "hardware.json").read_text()).values()) == [peak]
        assert hardware.peak_flops("cpu") == peak
    finally:
        torch.set_num_threads(threads)


def test_measuring_draws_no_random_number_and_keeps_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTKIT_CACHE", str(tmp_path / "not" / "there"))
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    hardware.peak_flops("cpu")
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_a_broken_cache_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTKIT_CACHE", str(tmp_path))
    (tmp_path / "hardware.json").write_text("[1, 2")
    assert hardware.peak_flops("cpu")


def test_unknown_devices_have_no_peak() -> None:
    assert hardware.peak_flops("mps") is None
    assert hardware.mfu(1e6, 1e3, None) is None
    assert hardware.mfu(6e6, 1e3, 1e11, world=2) == pytest.approx(0.03)


def test_memory_is_a_peak() -> None:
    script = (
        "import torch\nfrom gptkit.train.hardware import memory_bytes\n"
        "before = memory_bytes('cpu')\nheld = torch.ones(50_000_000)\nduring = memory_bytes('cpu')\ndel held\n"
        "print(during - before, memory_bytes('cpu') - during)"
    )
    root = Path(__file__).parents[1]
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    grown, after = map(int, told.stdout.split())
    assert 150e6 < grown < 400e6
    assert after > -1e6, "the kernel counts in batches"
