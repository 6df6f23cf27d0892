"""A model of ours as one GGUF file, which llama.cpp and what is built on it run."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gptkit import files
from gptkit.errors import RunError, UserError, did_you_mean
from gptkit.interop.gguf.architectures import ABSENT, ARCHITECTURES
from gptkit.interop.gguf.metadata import metadata, warn_of_gelu
from gptkit.interop.gguf.vocabulary import vocabulary_keys
from gptkit.interop.gguf.weights import DTYPES, arranged, as_array
from gptkit.interop.hugging_face import to_hf
from gptkit.model.gpt import GPT

__all__ = ["ABSENT", "ARCHITECTURES", "DTYPES", "save_gguf"]

_FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32}


def save_gguf(model: GPT, file: str | os.PathLike[str], kind: str | None = None, dtype: str = "f32") -> Path:
    """Write a GGUF file of a model and its tokenizer.

    A warning says where llama.cpp cannot hold the tokenizer; the file then has none.

    Args:
        model: one that was built from a config.
        file: must not be there yet.
        kind: the `model_type` of a family that llama.cpp runs; found by trying where it is not told.
        dtype: f32, f16 or bf16 for matrices; vectors have 32 bits.

    Raises:
        UserError: no such family holds the model, llama.cpp does not compute what it has, or the `gguf`
            library is missing.
        RunError: the file is there already, or cannot be written.
    """
    place = Path(file)
    if dtype not in DTYPES:
        raise UserError(f"dtype={dtype!r}: expected one of {', '.join(DTYPES)}.")
    if kind is not None and kind not in ARCHITECTURES:
        why = f"{ABSENT[kind]}." if kind in ABSENT else did_you_mean(kind, ARCHITECTURES)
        raise UserError(f"family={kind!r} is not written as GGUF. {why} Known: {', '.join(ARCHITECTURES)}.")
    library = _library()
    if os.path.lexists(place):
        raise RunError(f"{place} is there already. Choose another place, or remove it first.")
    kind, config, state = _family(model, kind)
    arch, keys = ARCHITECTURES[kind], metadata(kind, config)
    if not hasattr(library.MODEL_ARCH, arch.member):
        raise UserError(
            f"The `gguf` library here knows no {arch.name}. pip install -U gguf gets one that does."
        )
    names = library.get_tensor_name_map(library.MODEL_ARCH[arch.member], keys[f"{arch.name}.block_count"])
    arrays = {name: as_array(name, tensor, dtype) for name, tensor in arranged(kind, config, state, names)}
    told = {
        "general.type": "model", "general.name": place.stem, "general.file_type": _FILE_TYPES[dtype],
        "general.quantization_version": library.GGML_QUANT_VERSION, **keys,
    }  # fmt: skip
    warn_of_gelu(kind, config)
    vocab = vocabulary_keys(model.tokenizer, model.shape.vocab_size)
    told |= {f"tokenizer.ggml.{key}": value for key, value in vocab.items()}
    try:
        files.make_directory(place.parent)
        _write(library, place, arch.name, told, arrays)
    except OSError as error:
        raise RunError(f"{place} was not written: {files.cause(error)}.") from error
    return place


def _library() -> Any:
    try:
        return importlib.import_module("gguf")
    except ImportError:
        raise UserError("to=gguf needs the `gguf` library: pip install 'gptkit[gguf]'.") from None


def _family(model: GPT, kind: str | None) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The family that holds a model, and its config and weights there.

    Raises:
        UserError: none does; says why.
    """
    if kind is not None:
        return kind, *to_hf(model, kind)
    refused: UserError | None = None
    for name in ARCHITECTURES:
        try:
            config, state = to_hf(model, name)
        except UserError:
            continue
        try:
            metadata(name, config)
        except UserError as error:
            refused = refused or error
            continue
        return name, config, state
    if refused is not None:
        raise refused
    config, _ = to_hf(model)  # where no family at all holds it, says what differs
    name, known = config["model_type"], ", ".join(ARCHITECTURES)
    raise UserError(
        f"This model is a {name}, which is not written as GGUF: {ABSENT[name]}. Written are: {known}."
    )


def _write(
    library: Any, place: Path, arch: str, told: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """The file, whole or not at all; never over another.

    Raises:
        OSError: it cannot be written.
    """
    draft = place.with_name(f".{place.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    writer = library.GGUFWriter(draft, arch)
    for key, value in told.items():
        add = {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            str: writer.add_string,
        }
        add.get(type(value), writer.add_array)(key, value)
    for name, array in arrays.items():
        raw = library.GGMLQuantizationType.BF16 if array.dtype == np.uint16 else None
        writer.add_tensor(name, array, raw_dtype=raw)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        files.sync_file(draft)
        if os.path.lexists(place):
            raise FileExistsError(errno.EEXIST, "another wrote it meanwhile")
        os.replace(draft, place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    files.sync_directory(place.parent)
