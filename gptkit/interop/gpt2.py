"""GPT-2 as Hugging Face's `transformers` keeps it: a config and named weights, both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gptkit.errors import UserError, did_you_mean
from gptkit.model.assemble import build
from gptkit.model.attention import GroupedQuery
from gptkit.model.blocks import PreNorm
from gptkit.model.feed_forward import ACTIVATIONS, MLP
from gptkit.model.gpt import GPT
from gptkit.model.heads import LanguageModelHead
from gptkit.model.masks import Causal
from gptkit.model.norms import LayerNorm
from gptkit.model.positions import Learned

_TOP = {"wte": "embedding", "wpe": "position", "ln_f": "norm"}
_LAYER = {
    "ln_1": "attention_norm",
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.out",
    "ln_2": "feed_forward_norm",
    "mlp.c_fc": "feed_forward.up",
    "mlp.c_proj": "feed_forward.down",
}
_SIGMAS = {
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


def section_of(config: Mapping[str, Any], *, tied: bool = True) -> dict[str, Any]:
    """The `model` section of a gptkit config for a `config.json` of GPT-2.

    Raises:
        UserError: it has an activation that gptkit lacks, or cross-attention.
    """
    activation = config.get("activation_function", "gelu_new")
    if activation not in _SIGMAS:
        known = f"Known: {', '.join(_SIGMAS)}."
        raise UserError(
            f"activation_function={activation!r} has no like here. {did_you_mean(activation, _SIGMAS)} {known}"
        )
    if config.get("add_cross_attention"):
        raise UserError(
            "add_cross_attention: a model that reads a second text is no GPT; it cannot be imported."
        )
    width, heads = config["n_embd"], config["n_head"]
    scale = (width // heads) ** -0.5 if config.get("scale_attn_weights", True) else 1.0
    attention = {"name": "multi_head", "dropout": config.get("attn_pdrop", 0.1), "scale": scale}
    section = gpt2_section(
        layers=config["n_layer"], heads=heads, width=width, context=config.get("n_positions", 1024),
        vocab=config["vocab_size"], dropout=config.get("resid_pdrop", 0.1), activation=_SIGMAS[activation],
        tied=tied,
    )  # fmt: skip
    section.update(
        d_ff=config.get("n_inner") or 4 * width,
        attention=attention,
        norm={"name": "layer", "eps": config.get("layer_norm_epsilon", 1e-5)},
        embedding={"name": "token", "dropout": config.get("embd_pdrop", 0.1)},
    )
    if config.get("scale_attn_by_inverse_layer_idx"):
        section["layers"] = {
            str(i): {"attention": {**attention, "scale": scale / (i + 1)}} for i in range(config["n_layer"])
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


def to_gpt2(model: GPT) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A model as a GPT-2 of `transformers`: what its `config.json` and `model.safetensors` hold.

    Absent biases become zeros, so the logits are the same.

    Raises:
        UserError: the model is no GPT-2; tells every part that differs.
    """
    reasons = list(_differences(model))
    if reasons:
        raise UserError(f"GPT-2 cannot hold this model: {'; '.join(reasons)}.")
    head: Any = model.head
    state = {f"transformer.{theirs}": tensor for theirs, tensor in _exported(model)}
    state["lm_head.weight"] = head.weight.detach().clone()  # apart from the table, so that files may hold both
    return _gpt2_config(model), state


def _unwrapped(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _our_name(name: str) -> str | None:
    """`h.3.attn.c_attn.weight` -> `blocks.3.attention.qkv.weight`; None for a name of no GPT-2."""
    module, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if module in _TOP:
        return f"{_TOP[module]}.{kind}"
    layer, _, rest = module.partition(".")
    index, _, part = rest.partition(".")
    known = layer == "h" and index.isdigit() and part in _LAYER
    return f"blocks.{index}.{_LAYER[part]}.{kind}" if known else None


def _exported(model: GPT) -> Iterator[tuple[str, Tensor]]:
    ours = model.state_dict()
    names = [(f"{theirs}", name) for theirs, name in _TOP.items()]
    for index in range(len(model.blocks)):
        names += [(f"h.{index}.{theirs}", f"blocks.{index}.{name}") for theirs, name in _LAYER.items()]
    for theirs, name in names:
        weight = ours[f"{name}.weight"]
        is_map = weight.ndim == 2 and theirs.startswith("h.")
        yield f"{theirs}.weight", weight.t().contiguous() if is_map else weight
        if theirs not in ("wte", "wpe"):
            bias = ours.get(f"{name}.bias")
            yield f"{theirs}.bias", weight.new_zeros(weight.shape[0]) if bias is None else bias


def _differences(model: GPT) -> Iterator[str]:
    """Where a model is no GPT-2."""
    if not model.blocks:
        yield "it has no layers, so no norm before its head"
    if not isinstance(model.position, Learned):
        yield f"its positions are {type(model.position).__name__}, not learned"
    head = model.head
    if not isinstance(head, LanguageModelHead) or head.bias is not None:
        yield "its head has a bias"
    sigmas, epsilons = set(), set()
    for index, block in enumerate(model.blocks):
        attention, network = getattr(block, "attention", None), getattr(block, "feed_forward", None)
        norms = [
            getattr(block, "attention_norm", None),
            getattr(block, "feed_forward_norm", None),
            model.norm,
        ]
        if not isinstance(block, PreNorm) or not all(isinstance(norm, LayerNorm) for norm in norms):
            yield f"layer {index} is not pre-norm with layer norms"
        epsilons |= {norm.eps for norm in norms if isinstance(norm, LayerNorm)}
        if not isinstance(attention, GroupedQuery) or attention.heads != attention.kv_heads:
            yield f"layer {index} has {type(attention).__name__}, not multi_head"
        elif attention.heads * attention.d_head != model.shape.d_model:
            yield f"its heads are {attention.d_head} wide, not d_model / n_heads"
        if attention is not None and (
            type(attention.mask) is not Causal or attention.position is not model.position
        ):
            yield f"layer {index} has a mask beside causal, or positions of its own"
        if isinstance(network, MLP):
            sigmas.add(network.activation)
        else:
            yield f"layer {index} has no mlp"
    if len(sigmas) > 1 or len(epsilons) > 1:
        yield "its layers differ in activation or eps"
    if not _scales(model):
        yield "its attention scales its scores in another way"


def _scales(model: GPT) -> dict[str, bool] | None:
    """The two switches of GPT-2 that give the scales of these layers, or None."""
    own = [getattr(getattr(block, "attention", None), "scale", None) for block in model.blocks]
    for weights in (True, False):
        for by_layer in (False, True):
            base = model.shape.d_head**-0.5 if weights else 1.0
            if own == [base / (index + 1) if by_layer else base for index in range(len(own))]:
                return {"scale_attn_weights": weights, "scale_attn_by_inverse_layer_idx": by_layer}
    return None


def _gpt2_config(model: GPT) -> dict[str, Any]:
    block: Any = model.blocks[0]
    head: Any = model.head
    embedding: Any = model.embedding
    sigma = next(name for name, function in ACTIVATIONS.items() if function is block.feed_forward.activation)
    end = None if model.tokenizer is None else model.tokenizer.end_of_text
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": model.shape.vocab_size,
        "n_positions": model.max_positions,
        "n_embd": model.shape.d_model,
        "n_layer": model.shape.n_layers,
        "n_head": model.shape.n_heads,
        "n_inner": model.shape.d_ff,
        "activation_function": next(theirs for theirs, ours in _SIGMAS.items() if ours == sigma),
        "layer_norm_epsilon": block.attention_norm.eps,
        "attn_pdrop": block.attention.dropout,
        "resid_pdrop": block.dropout.p,
        "embd_pdrop": embedding.dropout.p,
        "tie_word_embeddings": head.tied,
        "bos_token_id": end,
        "eos_token_id": end,
        **(_scales(model) or {}),
    }
