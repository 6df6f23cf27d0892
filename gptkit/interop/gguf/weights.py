"""A family's weights under the names and in the order of llama.cpp."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gptkit.errors import UserError
from gptkit.interop.gguf.architectures import ARCHITECTURES
from gptkit.interop.gguf.rotary import frequency_factors

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# In 32 bits, as llama.cpp's own converter keeps them: what chooses experts, and all biases, even a row for each expert.
_WHOLE = ("position_embd.weight", "rope_freqs.weight", "ffn_gate_inp.weight", ".bias")
_EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(.+)")
_RENAMED = {
    "e_score_correction_bias": "e_score_correction.bias",
    "self_attn.sinks": "self_attn.sinks.weight",
}  # what the name maps of `gguf` have otherwise


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
    for whole, tensor in _stacked(state):
        if whole == "lm_head.weight" and tied:
            continue
        for theirs, part in _parts(kind, config, whole, tensor.detach()):
            name = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise UserError(f"llama.cpp's {arch.name} has no place for {theirs}.")
            yield name, part
            if name == "token_embd.weight" and tied and arch.own_head:
                yield "output.weight", part
    rope = config.get("rope_parameters", {})
    if rope.get("rope_type") == "llama3":
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        yield "rope_freqs.weight", torch.tensor(frequency_factors(rope, head))


def _stacked(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """All weights, the maps of the experts of a layer as one: [E, out, in]."""
    for name, tensor in state.items():
        found = _EXPERT.fullmatch(name)
        if found is None:
            yield name, tensor
        elif int(found[2]) == 0:
            each = takewhile(state.__contains__, (f"{found[1]}.{e}.{found[3]}" for e in count()))
            yield f"{found[1]}.{found[3]}", torch.stack([state[one] for one in each])


def _parts(kind: str, config: Mapping[str, Any], name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """One weight, or the several that llama.cpp has for it, under names that `gguf` knows."""
    for theirs, known in _RENAMED.items():
        name = name.replace(theirs, known)
    if kind == "bloom":
        name = name.removeprefix("transformer.")
    if kind == "gpt_oss" and ".experts." in name:
        yield from _clamped_experts(name, tensor)
    elif name.endswith("kv_b_proj.weight"):
        content, value = config["qk_nope_head_dim"], config["v_head_dim"]
        keys, values = tensor.unflatten(0, (-1, content + value)).split([content, value], dim=1)
        yield name.replace("kv_b_proj", "k_b_proj"), keys.transpose(1, 2)
        yield name.replace("kv_b_proj", "v_b_proj"), values
    else:
        yield name, _in_order(kind, config, name, tensor)


def _clamped_experts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """gpt-oss keeps experts as [E, in, out], the gate's columns and the other map's by turns."""
    stem, bias = name.removesuffix("_bias"), name.endswith("_bias")
    suffix, rows = (".bias", tensor) if bias else (".weight", tensor.transpose(1, 2))
    if stem.endswith("gate_up_proj"):
        for at, part in enumerate(("gate_proj", "up_proj")):
            yield stem.replace("gate_up_proj", part) + suffix, rows[:, at::2]
    else:
        yield stem + suffix, rows


def _in_order(kind: str, config: Mapping[str, Any], name: str, tensor: Tensor) -> Tensor:
    """One weight with its rows in llama.cpp's order."""
    arch = ARCHITECTURES[kind]
    heads = config.get("num_attention_heads") or config.get("n_head", 1)
    if arch.shift and name.endswith("norm.weight"):
        return tensor.double() + arch.shift  # as transformers adds it, after its cast
    if kind == "gpt2":
        return tensor.t() if tensor.ndim == 2 and name.startswith("transformer.h.") else tensor
    if arch.latent:
        return (
            tensor
            if config["rope_interleave"]
            else _last_paired(tensor, name, heads, config["qk_rope_head_dim"])
        )
    if arch.paired and ".q_proj." in name:
        return paired(tensor, heads)
    if arch.paired and ".k_proj." in name:
        return paired(tensor, config["num_key_value_heads"])
    if "query_key_value" in name:
        return _regrouped(tensor, heads, config.get("num_kv_heads"))
    return tensor


def paired(tensor: Tensor, heads: int) -> Tensor:
    """Rows that turn together, half a head apart, brought side by side."""
    return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(tensor.shape)


def _last_paired(tensor: Tensor, name: str, heads: int, turning: int) -> Tensor:
    """Latent attention, where only the last rows of each head's queries turn, and the last rows of all keys."""
    one = {"q_proj.weight": heads, "q_b_proj.weight": heads, "kv_a_proj_with_mqa.weight": 1}
    groups = one.get(".".join(name.split(".")[-2:]))
    if groups is None:
        return tensor
    each = tensor.unflatten(0, (groups, -1))
    still, turned = each.split([each.shape[1] - turning, turning], dim=1)
    return torch.cat([still, paired(turned.flatten(0, 1), groups).view_as(turned)], dim=1).flatten(0, 1)


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
    kept = torch.float32 if tensor.ndim < 2 or name.endswith(_WHOLE) else DTYPES[dtype]
    cast = tensor.to(device="cpu", dtype=kept).contiguous()
    if kept == torch.float16 and not torch.isfinite(cast).all() and torch.isfinite(tensor).all():
        raise UserError(f"{name} has numbers beyond 65,504, the largest of f16. Take dtype=bf16 or f32.")
    return (cast.view(torch.uint16) if kept == torch.bfloat16 else cast).numpy()
