"""A family's weights under the names and in the order of llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gptkit.errors import UserError
from gptkit.interop.gguf.architectures import ARCHITECTURES, frequency_factors

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_WHOLE = ("position_embd.weight", "rope_freqs.weight")  # in 32 bits, as vectors are


def arranged(
    kind: str, config: Mapping[str, Any], state: Mapping[str, Tensor], names: Any
) -> Iterator[tuple[str, Tensor]]:
    """Each weight as llama.cpp keeps it.

    Args:
        kind: the `model_type`.
        config: as `config.json` has it.
        state: under the names of transformers.
        names: `gguf.get_tensor_name_map` of the architecture.

    Raises:
        UserError: llama.cpp has no place for a weight; names it.
    """
    arch, tied = ARCHITECTURES[kind], config.get("tie_word_embeddings")
    for theirs, tensor in state.items():
        if theirs == "lm_head.weight" and tied:
            continue
        name = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise UserError(f"llama.cpp's {arch.name} has no place for {theirs}.")
        yield name, _in_order(kind, config, theirs, tensor.detach())
        if name == "token_embd.weight" and tied and arch.own_head:
            yield "output.weight", tensor.detach()
    rope = config.get("rope_parameters", {})
    if rope.get("rope_type") == "llama3":
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        yield "rope_freqs.weight", torch.tensor(frequency_factors(rope, head))


def _in_order(kind: str, config: Mapping[str, Any], name: str, tensor: Tensor) -> Tensor:
    """One weight with its rows in llama.cpp's order."""
    arch = ARCHITECTURES[kind]
    if arch.shift and name.endswith("norm.weight"):
        return tensor.double() + arch.shift  # as transformers adds it, after its cast
    if kind == "gpt2":
        return tensor.t() if tensor.ndim == 2 and name.startswith("transformer.h.") else tensor
    if arch.paired and ".q_proj." in name:
        return paired(tensor, config["num_attention_heads"])
    if arch.paired and ".k_proj." in name:
        return paired(tensor, config["num_key_value_heads"])
    if "query_key_value" in name:
        return _regrouped(tensor, config["num_attention_heads"], config.get("num_kv_heads"))
    return tensor


def paired(tensor: Tensor, heads: int) -> Tensor:
    """Rows that turn together, half a head apart, brought side by side."""
    return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(tensor.shape)


def _regrouped(tensor: Tensor, heads: int, kv_heads: int | None) -> Tensor:
    """All queries, all keys, all values of a map whose groups have their own of each together."""
    groups = kv_heads or heads
    each = tensor.unflatten(0, (groups, heads // groups + 2, -1))
    return torch.cat([part.flatten(0, 2) for part in (each[:, :-2], each[:, -2:-1], each[:, -1:])])


def as_array(name: str, tensor: Tensor, dtype: str) -> np.ndarray:
    """A weight's numbers; bfloat16 as the whole numbers of its bits.

    Raises:
        UserError: a number is too large for 16 bits.
    """
    kept = torch.float32 if tensor.ndim < 2 or name in _WHOLE else DTYPES[dtype]
    cast = tensor.to(device="cpu", dtype=kept).contiguous()
    if kept == torch.float16 and not torch.isfinite(cast).all() and torch.isfinite(tensor).all():
        raise UserError(f"{name} has numbers beyond 65,504, the largest of f16. Take dtype=bf16 or f32.")
    return (cast.view(torch.uint16) if kept == torch.bfloat16 else cast).numpy()
