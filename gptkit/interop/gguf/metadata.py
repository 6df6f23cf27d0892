"""What llama.cpp must be told of a model beside its weights; what it does not compute is refused."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from gptkit.errors import UserError
from gptkit.interop.fields import Fields
from gptkit.interop.gguf.architectures import ARCHITECTURES, Architecture
from gptkit.interop.gguf.rotary import Value, rope_keys

_TOLD_ELSEWHERE = (
    "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "emb_pdrop",
    "new_decoder_architecture", "attention_bias", "multi_query", "num_ln_in_parallel_attn", "use_qkv_bias", "mlp_bias",
    "router_aux_loss_coef", "num_nextn_predict_layers", "tie_word_embeddings", "rope_interleave",
)  # fmt: skip  # what the names, shapes and order of the weights tell, or only training asks for
_SIGMOID = 2  # llama.cpp's number of the score
_log = logging.getLogger("gptkit")


def metadata(kind: str, config: Mapping[str, Any]) -> dict[str, Value]:
    """Every key of a family's config as llama.cpp names it.

    Args:
        kind: the `model_type`.
        config: as `config.json` has it.

    Raises:
        UserError: llama.cpp cannot be told a field, or does not compute it; names each.
    """
    arch, fields = ARCHITECTURES[kind], Fields(config, kind)
    for name in _TOLD_ELSEWHERE:
        fields.take(name, None)
    for name, value in arch.fixed:
        fields.only(name, value)
    heads = _one(fields, "num_attention_heads", "n_head", "n_heads")
    width = _one(fields, "hidden_size", "n_embd", "d_model")
    kv_heads = fields.take("num_key_value_heads", None) or fields.take("num_kv_heads", None) or heads
    head = fields.take("head_dim", None) or width // heads
    if not arch.wide and head * heads != width:
        fields.refuse("head_dim", f"llama.cpp's {arch.name} has heads of hidden_size / num_attention_heads")
    told: dict[str, Value] = {
        "context_length": _one(fields, "max_position_embeddings", "n_positions", "seq_length", "max_seq_len"),
        "embedding_length": width,
        "block_count": _one(fields, "num_hidden_layers", "n_layer", "n_layers"),
        "feed_forward_length": _network(fields, width),
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "vocab_size": fields.whole("vocab_size"),
        **_eps(fields),
    }
    if "use_parallel_residual" in config:
        told["use_parallel_residual"] = bool(fields.take("use_parallel_residual"))
    name, activation = _activation(kind, config)
    fields.take(name, None)
    if activation not in arch.activations:
        fields.refuse(name, f"llama.cpp's {arch.name} computes {' or '.join(arch.activations)}")
    if "num_experts_per_tok" in config:
        told |= _experts(fields, kind)
    if arch.latent:
        told |= _latent(fields, told)
        head = fields.whole("qk_rope_head_dim")
    if arch.ropes:
        told |= rope_keys(fields, arch, head, int(told["context_length"]))
    if "attn_config" in config:
        told |= _mpt(fields, head)
    _still(fields, arch, told)
    told |= _windows(fields, kind, told)
    if arch.shift:
        told |= _gemma(fields, kind, told)
    unknown = [f"{name}={config[name]!r} is not known" for name in sorted(fields.left)]
    if fields.problems or unknown:
        why = "; ".join([*dict.fromkeys(fields.problems), *unknown])
        raise UserError(f"llama.cpp cannot hold this {kind}: {why}. to=hf writes it for transformers.")
    return {f"{arch.name}.{key}": value for key, value in told.items()}


def warn_of_gelu(kind: str, config: Mapping[str, Any]) -> None:
    """Say so where llama.cpp computes GELU otherwise than the model does."""
    if _activation(kind, config)[1] == "gelu":
        _log.warning(
            "This %s has the exact GELU. llama.cpp computes its tanh form, so its logits differ a little.",
            kind,
        )


def _activation(kind: str, config: Mapping[str, Any]) -> tuple[str, Any]:
    """The field that tells the activation, and its value."""
    names = ("hidden_act", "hidden_activation", "activation", "activation_function")
    own = ARCHITECTURES[kind].own_activation
    return next(((name, config[name]) for name in names if name in config), (names[0], own))


def _one(fields: Fields, *names: str) -> int:
    """A whole number that has one of these names."""
    return fields.whole(next((name for name in names if name in fields.config), names[0]))


def _network(fields: Fields, width: int) -> int:
    """The width of the feed-forward networks; four times the model's where none is told."""
    names = ("intermediate_size", "n_inner", "ffn_hidden_size")
    if not any(name in fields.config for name in names):
        fields.only("expansion_ratio", 4)
        return 4 * width
    return _one(fields, *names)


def _eps(fields: Fields) -> dict[str, Value]:
    for name in ("layer_norm_eps", "layer_norm_epsilon"):
        if name in fields.config:
            return {"attention.layer_norm_epsilon": float(fields.take(name))}
    return {"attention.layer_norm_rms_epsilon": float(fields.take("rms_norm_eps"))}


def _experts(fields: Fields, kind: str) -> dict[str, Value]:
    """How many experts there are, how wide, and how a token comes to some of them."""
    count = _one(fields, "num_local_experts", "num_experts", "n_routed_experts")
    made: dict[str, Value] = {"expert_count": count, "expert_used_count": fields.whole("num_experts_per_tok")}
    if kind != "mixtral":
        made["expert_feed_forward_length"] = _one(fields, "moe_intermediate_size", "intermediate_size")
    if kind == "deepseek_v3":
        made |= {
            "expert_shared_count": fields.whole("n_shared_experts"),
            "expert_weights_scale": float(fields.take("routed_scaling_factor")),
            "expert_weights_norm": bool(fields.take("norm_topk_prob")),
            "expert_gating_func": _SIGMOID, "expert_group_count": fields.whole("n_group"),
            "expert_group_used_count": fields.whole("topk_group"),
            "leading_dense_block_count": fields.take("first_k_dense_replace"),
        }  # fmt: skip
    return made


def _latent(fields: Fields, told: Mapping[str, Any]) -> dict[str, Value]:
    """Latent attention, which llama.cpp computes as one head of keys and values as wide as the short vector."""
    placed, rank = fields.whole("qk_rope_head_dim"), fields.whole("kv_lora_rank")
    q_rank = fields.take("q_lora_rank", None) or 0
    if not math.isclose(told["attention.layer_norm_rms_epsilon"], 1e-6):
        why = "llama.cpp has one for all norms, and those of the short vectors have 1e-06 in transformers"
        fields.refuse("rms_norm_eps", why)
    size = told["block_count"], told["vocab_size"]
    if q_rank and (size[0] in {26, 27} or size == (48, 128256)):
        fields.refuse(
            "q_lora_rank", "llama.cpp takes a model of this size for DeepSeek-V2-Lite, which has none"
        )
    return {
        "attention.head_count_kv": 1, "attention.q_lora_rank": q_rank, "attention.kv_lora_rank": rank,
        "attention.key_length": rank + placed, "attention.value_length": rank,
        "attention.key_length_mla": fields.whole("qk_nope_head_dim") + placed,
        "attention.value_length_mla": fields.whole("v_head_dim"),
    }  # fmt: skip


def _mpt(fields: Fields, head: int) -> dict[str, Value]:
    """The bound of ALiBi's biases."""
    node = fields.take("attn_config")
    scale = node.get("softmax_scale")
    if scale is not None and not math.isclose(scale, head**-0.5, rel_tol=1e-6):
        fields.refuse("attn_config", f"llama.cpp's mpt computes a softmax_scale of {head**-0.5}")
    strange = sorted(set(node) - {"softmax_scale", "attn_pdrop", "alibi"})
    fields.problems += [f"attn_config holds {name}" for name in strange]
    return {"attention.max_alibi_bias": 8.0}


def _still(fields: Fields, arch: Architecture, told: Mapping[str, Any]) -> None:
    """Refuse layers without positions where llama.cpp has others."""
    turned = fields.take("no_rope_layers", None)
    usual = [int((i + 1) % arch.still != 0) for i in range(told["block_count"])] if arch.still else None
    if turned is not None and turned != usual:
        fields.refuse(
            "no_rope_layers", f"llama.cpp's {arch.name} has no positions in every fourth layer, and no other"
        )


def _windows(fields: Fields, kind: str, told: Mapping[str, Any]) -> dict[str, Value]:
    """The key of a sliding window, which some architectures have in layers that llama.cpp fixes."""
    arch, count, context = ARCHITECTURES[kind], told["block_count"], told["context_length"]
    used, window = fields.take("use_sliding_window", True), fields.take("sliding_window", None)
    types = fields.take("layer_types", None)
    fields.take("max_window_layers", None)
    slides = [t == "sliding_attention" for t in types] if types else [bool(used and window)] * count
    required = kind in {"gemma2", "gpt_oss"}
    made: dict[str, Value] = (
        {"attention.sliding_window": 0} if kind == "phi3" else {}
    )  # said, as some guess one
    if not window or not any(slides):
        return {"attention.sliding_window": context} if required else made
    if arch.whole and slides == [(i + 1) % arch.whole != 0 for i in range(count)]:
        return {"attention.sliding_window": window}  # as all versions of llama.cpp have it
    if window >= context and kind != "gemma3_text":  # where windows go with other positions
        return {"attention.sliding_window": window} if required else made
    where = {
        0: "has no windows",
        2: "slides in the first of each two layers",
        6: "slides in the first five of each six layers",
    }
    fields.refuse("sliding_window", f"llama.cpp's {arch.name} {where[arch.whole]}")
    return made


def _gemma(fields: Fields, kind: str, told: Mapping[str, Any]) -> dict[str, Value]:
    """Soft caps; and the scale of the scores, which llama.cpp finds by the number of layers."""
    made: dict[str, Value] = {}
    for name, key in (("attn", "attn_logit_softcapping"), ("final", "final_logit_softcapping")):
        cap = fields.take(f"{name}_logit_softcapping", None)
        if cap:
            made[key] = float(cap)
        elif kind == "gemma2":
            fields.refuse(f"{name}_logit_softcapping", "llama.cpp's gemma2 always caps")
    scalar = fields.take("query_pre_attn_scalar")
    large = told["block_count"] == {"gemma2": 46, "gemma3_text": 62}[kind]
    whole = told["embedding_length"] // told["attention.head_count"]
    expected = whole if large else told["attention.key_length"]
    if not math.isclose(scalar, expected, rel_tol=1e-6):
        fields.refuse("query_pre_attn_scalar", f"llama.cpp computes {expected} for this size")
    return made
