"""Tensors as the bytes of a safetensors file, and back; no pickle.

Written here piece by piece, so that each byte is hashed as it passes, nothing is copied and an error
of the disk stays that error. Read by the safetensors library, which checks the header.

The format is 8 bytes of header length, a JSON header, then the tensors' bytes:
https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gptkit.errors import CheckpointError
from gptkit.files import open_plain, parse_json

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_SHARED = "gptkit.shared"
_METADATA = "__metadata__"


def encode(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The pieces of a safetensors file, in order.

    A tensor that stands under several names is written once, and is one tensor again when read.

    Args:
        tensors: on any device, in any layout of memory; whole ones.

    Raises:
        CheckpointError: a tensor cannot be written; says which and why.
    """
    first, shared = _shared(tensors)
    order = sorted(first, key=lambda name: (-tensors[name].element_size(), name))  # keeps them aligned
    header: dict[str, Any] = {_METADATA: {"format": "pt", _SHARED: json.dumps(shared, sort_keys=True)}}
    end = 0
    for name in order:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return _pieces(len(text).to_bytes(8, "little") + text, [tensors[name] for name in order])


def _pieces(header: bytes, tensors: list[Tensor]) -> Iterator[bytes | memoryview]:
    yield header
    for tensor in tensors:
        plain = tensor.detach().to("cpu").contiguous()
        if plain.numel():
            yield plain.reshape(-1).view(torch.uint8).numpy().data


def names(path: Path) -> set[str]:
    """The tensors that a safetensors file holds itself, by its header.

    Raises:
        CheckpointError: it is no safetensors file.
    """
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return set(file.keys())
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}.") from None


def decode(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, each in memory of its own.

    Raises:
        CheckpointError: it is no safetensors file, or its header contradicts itself.
        OSError, ValueError: it is no plain file that can be read.
    """
    os.close(open_plain(path))
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}.{_looks_like(path)}") from None
    for name, original in _read_shared(metadata, path).items():
        if original not in tensors or name in tensors:
            raise CheckpointError(f"{path}: {name!r} is said to be {original!r}, which does not fit.")
        tensors[name] = tensors[original]
    return tensors


def _shared(tensors: Mapping[str, Tensor]) -> tuple[list[str], dict[str, str]]:
    """The names to write, and for each other name the one that it shares all its memory with."""
    first: dict[Any, str] = {}
    shared: dict[str, str] = {}
    for name in sorted(tensors):
        tensor = tensors[name]
        _check(name, tensor)
        memory = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        key = memory if tensor.numel() else name
        if first.setdefault(key, name) != name:
            shared[name] = first[key]
    return list(first.values()), shared


def _check(name: str, tensor: Tensor) -> None:
    """Refuse what would not come back as it was."""
    reason = ""
    if not isinstance(name, str) or name == _METADATA:
        reason = "has a name that cannot be kept"
    elif not isinstance(tensor, Tensor):
        reason = f"is no tensor but {type(tensor).__name__}"
    elif hasattr(tensor, "device_mesh"):
        reason = "is sharded over devices; gather it first"
    elif tensor.device.type == "meta":
        reason = "holds no numbers (it is on the meta device)"
    elif tensor.layout is not torch.strided or tensor.is_quantized:
        reason = "is not a plain dense tensor"
    elif tensor.dtype not in _DTYPES:
        reason = f"has the type {tensor.dtype}, which safetensors files do not hold"
    if reason:
        raise CheckpointError(f"The tensor {name!r} {reason}.")


def _read_shared(metadata: Mapping[str, str], path: Path) -> dict[str, str]:
    try:
        shared = parse_json(metadata.get(_SHARED, "{}").encode("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: its list of shared tensors is {error}.") from None
    if not isinstance(shared, dict) or not all(isinstance(value, str) for value in shared.values()):
        raise CheckpointError(f"{path}: its list of shared tensors is malformed.")
    return shared


def _looks_like(path: Path) -> str:
    """A hint for a file that carries the wrong name."""
    with path.open("rb") as file:
        start = file.read(4)
    if start[:1] == b"\x80" or start[:2] == b"PK":
        return " It looks like a pickle, which can run code when loaded; gptkit never loads one."
    return ""
