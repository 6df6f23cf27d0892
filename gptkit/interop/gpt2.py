"""GPT-2 as Hugging Face's `transformers` keeps it, a config and named weights, as a model of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gptkit.errors import UserError, did_you_mean
from gptkit.interop.fields import Fields
from gptkit.model.assemble import build
from gptkit.model.gpt import GPT

TOP = {"wte": "embedding", "wpe": "position", "ln_f": "norm"}
LAYER = {
    "ln_1": "attention_norm",
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.out",
    "ln_2": "feed_forward_norm",
    "mlp.c_fc": "feed_forward.up",
    "mlp.c_proj": "feed_forward.down",
}
SIGMAS = {
    "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu": "gelu",
    "relu": "relu", "relu2": "relu_squared", "silu": "silu", "swish": "silu", "tanh": "tanh",
    "sigmoid": "sigmoid", "linear": "identity",
}  # fmt: skip
_WRAPPERS = ("_orig_mod.", "module.", "transformer.")  # torch.compile, DDP, the model under its head
_BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks that old versions saved


def from_gpt2(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> GPT:
    """The gptkit model of a GPT-2 of `transformers`.

    Args:
        config: as of its `config.json`.
        state: as of its `state_dict()` or `model.safetensors`.

    Raises:
        UserError: the config asks for what GPT-2 in gptkit cannot do, or the weights do not fit it.
    """
    weights = rename(state, transposed=True)
    tied = config.get("tie_word_embeddings", True) and "head.table" not in weights
    return model_of(section_of(config, tied=tied), weights)


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the weights of a folder that `save_pretrained` wrote.

    Raises:
        UserError: one of its two files is missing, cannot be read, or is of another model than GPT-2.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        state = load_file(folder / "model.safetensors")
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} has no {Path(error.filename or 'model.safetensors').name}. A GPT-2 of transformers has "
            "config.json and model.safetensors; pytorch_model.bin is a pickle and is never loaded."
        ) from None
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be read: {str(error).splitlines()[0]}.") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "gpt2":
        raise UserError(f"{folder} holds a model of the kind {kind!r}; only 'gpt2' can be imported.")
    return config, state


def section_of(config: Mapping[str, Any], *, tied: bool = True) -> dict[str, Any]:
    """The `model` section of a gptkit config for a `config.json` of GPT-2.

    Args:
        config: as parsed.
        tied: whether the head is the embedding's table, whatever the config says of it.

    Raises:
        UserError: it has an activation that gptkit lacks, cross-attention, or a field that is not known.
    """
    fields = Fields(config, "gpt2")
    section = read(fields)
    fields.done()
    return {**section, "head": {**section["head"], "tied": tied}}


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config.

    Raises:
        UserError: a size is missing, or it has an activation that gptkit lacks, or cross-attention.
    """
    config, sizes = fields.config, ("n_embd", "n_head", "n_layer", "vocab_size")
    missing = [key for key in sizes if type(config.get(key)) is not int]
    if missing:
        raise UserError(f"config.json must hold whole numbers for {', '.join(missing)}.")
    activation = fields.take("activation_function", "gelu_new")
    if activation not in SIGMAS:
        known = f"Known: {', '.join(SIGMAS)}."
        raise UserError(
            f"activation_function={activation!r} has no like here. {did_you_mean(str(activation), SIGMAS)} {known}"
        )
    if config.get("add_cross_attention"):
        raise UserError(
            "add_cross_attention: a model that reads a second text is no GPT; it cannot be imported."
        )
    for name in ("n_ctx", "reorder_and_upcast_attn", "predict_special_tokens", *fields.named("summary_")):
        fields.take(name, None)  # n_positions again, how numbers are kept, and the heads that classify
    width, heads, layers = fields.whole("n_embd"), fields.whole("n_head"), fields.whole("n_layer")
    scale = max(width // heads, 1) ** -0.5 if fields.take("scale_attn_weights", True) else 1.0
    attention = {"name": "multi_head", "dropout": fields.number("attn_pdrop", 0.1), "scale": scale}
    section = gpt2_section(
        layers=layers, heads=heads, width=width, context=fields.whole("n_positions", 1024),
        vocab=fields.whole("vocab_size"), dropout=fields.number("resid_pdrop", 0.1),
        activation=SIGMAS[activation], tied=bool(fields.take("tie_word_embeddings", True)),
    )  # fmt: skip
    section.update(
        d_ff=fields.whole_or("n_inner", 4 * width),
        attention=attention,
        norm={"name": "layer", "eps": fields.number("layer_norm_epsilon", 1e-5)},
        embedding={"name": "token", "dropout": fields.number("embd_pdrop", 0.1)},
    )
    if fields.take("scale_attn_by_inverse_layer_idx", False):
        section["layers"] = {
            str(i): {"attention": {**attention, "scale": scale / (i + 1)}} for i in range(layers)
        }
    return section


def gpt2_section(
    *, layers: int, heads: int, width: int, context: int, vocab: int, dropout: float = 0.0, bias: bool = True,
    activation: str = "gelu_tanh", tied: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """A `model` section in which every part of a GPT-2 is named."""
    return {
        "context_length": context, "d_model": width, "n_layers": layers, "n_heads": heads, "vocab_size": vocab,
        "dropout": dropout, "bias": bias,
        "embedding": {"name": "token", "dropout": dropout},
        "position": {"name": "learned"},
        "mask": {"causal": {}},
        "attention": {"name": "multi_head", "bias": bias, "dropout": dropout},
        "feed_forward": {"name": "mlp", "activation": activation, "bias": bias},
        "norm": {"name": "layer", "bias": bias},
        "block": {"name": "pre", "dropout": dropout},
        "head": {"name": "language_model", "tied": tied},
        "init": {"name": "gpt2"},
    }  # fmt: skip


def rename(state: Mapping[str, Tensor], *, transposed: bool) -> dict[str, Tensor]:
    """GPT-2's weights under gptkit's names.

    Args:
        state: with or without the prefixes that wrappers add.
        transposed: the maps of blocks are kept as [in, out], as `transformers` does.

    Returns:
        `head.table` is among them only where the head is not the embedding's own table.

    Raises:
        UserError: a name that no GPT-2 has; all of them are told.
    """
    weights: dict[str, Tensor] = {}
    strange = []
    for full, tensor in state.items():
        name = _unwrapped(full)
        ours = "head.table" if name == "lm_head.weight" else _our_name(name)
        if name.startswith("h.") and name.endswith(_BUFFERS):
            continue
        if ours is None:
            strange.append(full)
            continue
        is_map = transposed and name.startswith("h.") and tensor.ndim == 2
        weights[ours] = tensor.t().contiguous() if is_map else tensor
    if strange:
        raise UserError(
            f"These weights belong to no GPT-2: {', '.join(strange[:8])}{', …' * (len(strange) > 8)}."
        )
    table = weights.get("head.table")
    if table is not None and torch.equal(table, weights.get("embedding.weight", table.new_empty(0))):
        del weights["head.table"]
    return weights


def model_of(section: dict[str, Any], weights: Mapping[str, Tensor]) -> GPT:
    """The model of a section, holding these weights, in their type.

    Raises:
        UserError: a weight is missing, left over, or of another shape; all of them are told.
    """
    model = build({"model": section}, initialise_weights=False)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = [f"{name} is missing" for name in expected.keys() - given.keys()]
    wrong += [f"{name} is left over" for name in given.keys() - expected.keys()]
    wrong += [
        f"{name} is {given[name]} where the config says {shape}"
        for name, shape in expected.items()
        if name in given and given[name] != shape
    ]
    if wrong:
        raise UserError(
            f"The weights do not fit the model: {'; '.join(sorted(wrong)[:8])}{'; …' * (len(wrong) > 8)}."
        )
    model.to(weights["embedding.weight"].dtype).load_state_dict(dict(weights))
    return model


def _unwrapped(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _our_name(name: str) -> str | None:
    """`h.3.attn.c_attn.weight` -> `blocks.3.attention.qkv.weight`; None for a name of no GPT-2."""
    module, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if module in TOP:
        return f"{TOP[module]}.{kind}"
    layer, _, rest = module.partition(".")
    index, _, part = rest.partition(".")
    known = layer == "h" and index.isdigit() and part in LAYER
    return f"blocks.{index}.{LAYER[part]}.{kind}" if known else None
