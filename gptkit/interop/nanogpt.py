"""nanoGPT's checkpoints: `ckpt.pt` with its weights and sizes, read without running any code in it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gptkit.errors import UserError
from gptkit.interop.gpt2 import gpt2_section, model_of, rename
from gptkit.model.gpt import GPT

_SIZES = {
    "n_layer": "layers",
    "n_head": "heads",
    "n_embd": "width",
    "block_size": "context",
    "vocab_size": "vocab",
}


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """The contents of a `ckpt.pt`: tensors and plain values only.

    Raises:
        UserError: there is no such file, it holds more than that, or it is not nanoGPT's.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no file {path}. Give nanoGPT's ckpt.pt, such as from=out/ckpt.pt.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values, or is no checkpoint; loading it could run its "
            "code, so it is not loaded. Save its weights and sizes alone, as nanoGPT's train.py does."
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise UserError(f"{path} cannot be read as a checkpoint: {_first_line(error)}") from error
    if not isinstance(found, dict) or not {"model", "model_args"} <= found.keys():
        holds = (
            ", ".join(map(str, list(found)[:8])) if isinstance(found, dict) else f"a {type(found).__name__}"
        )
        raise UserError(f"{path} is not nanoGPT's: it holds {holds}, and not 'model' and 'model_args'.")
    return found


def from_nanogpt(checkpoint: Mapping[str, Any], *, activation: str = "gelu") -> GPT:
    """The gptkit model of a nanoGPT checkpoint.

    Args:
        checkpoint: what `load_checkpoint` gives.
        activation: `gelu`; `gelu_tanh` for checkpoints of nanoGPT before June 2023.

    Raises:
        UserError: sizes are missing, or the weights do not fit them.
    """
    arguments = checkpoint["model_args"]
    missing = [key for key in _SIZES if type(arguments.get(key)) is not int]
    if missing:
        raise UserError(f"model_args of the checkpoint must hold whole numbers for {', '.join(missing)}.")
    weights = rename(checkpoint["model"], transposed=False)
    section = gpt2_section(
        **{ours: arguments[theirs] for theirs, ours in _SIZES.items()},
        dropout=float(arguments.get("dropout", 0.0)),
        bias="norm.bias" in weights,
        activation=activation,
        tied="head.table" not in weights,
    )
    return model_of(section, weights)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
