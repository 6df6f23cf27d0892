"""A model of ours as a GPT-2 of Hugging Face's `transformers`, where it is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from gptkit.errors import UserError
from gptkit.interop.gpt2 import LAYER, SIGMAS, TOP
from gptkit.model.attention import GroupedQuery
from gptkit.model.blocks import PreNorm
from gptkit.model.feed_forward import ACTIVATIONS, MLP
from gptkit.model.gpt import GPT
from gptkit.model.heads import LanguageModelHead
from gptkit.model.masks import Causal
from gptkit.model.norms import LayerNorm
from gptkit.model.positions import Learned


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
    state["lm_head.weight"] = (
        head.weight.detach().clone()
    )  # apart from the table, so that files may hold both
    return _gpt2_config(model), state


def _exported(model: GPT) -> Iterator[tuple[str, Tensor]]:
    ours = model.state_dict()
    names = [(f"{theirs}", name) for theirs, name in TOP.items()]
    for index in range(len(model.blocks)):
        names += [(f"h.{index}.{theirs}", f"blocks.{index}.{name}") for theirs, name in LAYER.items()]
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
        "activation_function": next(theirs for theirs, ours in SIGMAS.items() if ours == sigma),
        "layer_norm_epsilon": block.attention_norm.eps,
        "attn_pdrop": block.attention.dropout,
        "resid_pdrop": block.dropout.p,
        "embd_pdrop": embedding.dropout.p,
        "tie_word_embeddings": head.tied,
        "bos_token_id": end,
        "eos_token_id": end,
        **(_scales(model) or {}),
    }
