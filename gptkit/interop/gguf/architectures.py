"""What llama.cpp must be told of a model beside its weights, by family; what it does not compute is refused."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gptkit.errors import UserError
from gptkit.interop.fields import Fields

Value = bool | int | float | str
_TANH = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")
_ROPES = ("default", "linear", "yarn")
_TOLD_ELSEWHERE = (
    "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "new_decoder_architecture",
    "attention_bias", "multi_query", "num_ln_in_parallel_attn", "use_qkv_bias", "mlp_bias",
)  # fmt: skip  # what the names and shapes of the weights tell, or only training asks for
_log = logging.getLogger("gptkit")


@dataclass(frozen=True)
class Architecture:
    """How llama.cpp computes a family.

    Attributes:
        name: llama.cpp's own, which begins its keys.
        member: its name in `gguf.MODEL_ARCH`.
        activations: of the feed-forward networks.
        ropes: the scalings of rotary positions; none where positions are learned.
        fixed: the only values that it computes of the family's own fields.
        partial: a part of each head may turn.
        wide: heads may have any width.
        own_head: it wants the table of the head by itself, even where it is the embedding's.
        paired: neighbouring numbers of a head turn together, not those half a head apart.
        shift: what is added to the gains of its norms.
    """

    name: str
    member: str
    activations: tuple[str, ...] = ("silu",)
    ropes: tuple[str, ...] = _ROPES
    fixed: tuple[tuple[str, Any], ...] = ()
    partial: bool = False
    wide: bool = False
    own_head: bool = False
    paired: bool = False
    shift: float = 0.0


_GELU = (*_TANH, "gelu")
_NO_BIAS = (("attention_bias", False),)
_LLAMA = Architecture("llama", "LLAMA", ropes=(*_ROPES, "llama3"), wide=True, paired=True)
ARCHITECTURES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Architecture("qwen2", "QWEN2"),
    "qwen3": Architecture("qwen3", "QWEN3", fixed=_NO_BIAS, wide=True),
    "gpt2": Architecture(
        "gpt2", "GPT2", _GELU, (), (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False))
    ),
    "gpt_neox": Architecture(
        "gptneox", "GPTNEOX", _GELU, fixed=(("attention_bias", True),), partial=True, own_head=True
    ),
    "gemma2": Architecture(
        "gemma2", "GEMMA2", _TANH, ("default",), (*_NO_BIAS, ("tie_word_embeddings", True)), wide=True, shift=1.0
    ),
    "gemma3_text": Architecture("gemma3", "GEMMA3", _TANH, _ROPES[:2], _NO_BIAS, wide=True, shift=1.0),
    "phi3": Architecture("phi3", "PHI3", ropes=("default",), partial=True),
    "falcon": Architecture(
        "falcon", "FALCON", _GELU, fixed=(("bias", False), ("parallel_attn", True), ("alibi", False))
    ),
    "stablelm": Architecture(
        "stablelm", "STABLELM", fixed=(("qk_layernorm", False),), partial=True, own_head=True
    ),
    "olmo2": Architecture("olmo2", "OLMO2", fixed=_NO_BIAS, own_head=True),
}  # fmt: skip


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
    heads, width = _one(fields, "num_attention_heads", "n_head"), _one(fields, "hidden_size", "n_embd")
    kv_heads = fields.take("num_key_value_heads", None) or fields.take("num_kv_heads", None) or heads
    head = fields.take("head_dim", None) or width // heads
    if not arch.wide and head * heads != width:
        fields.refuse("head_dim", f"llama.cpp's {arch.name} has heads of hidden_size / num_attention_heads")
    fields.take("tie_word_embeddings", None)
    told: dict[str, Value] = {
        "context_length": _one(fields, "max_position_embeddings", "n_positions"),
        "embedding_length": width,
        "block_count": _one(fields, "num_hidden_layers", "n_layer"),
        "feed_forward_length": _one(fields, "intermediate_size", "n_inner", "ffn_hidden_size"),
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "vocab_size": fields.whole("vocab_size"),
        **_eps(fields),
    }
    if "use_parallel_residual" in config:
        told["use_parallel_residual"] = bool(fields.take("use_parallel_residual"))
    name, _ = _activation(config)
    if fields.take(name) not in arch.activations:
        fields.refuse(name, f"llama.cpp's {arch.name} computes {' or '.join(arch.activations)}")
    if arch.ropes:
        told |= _rope(fields, arch, head, told)
    told |= _windows(fields, kind, told)
    if arch.shift:
        told |= _gemma(fields, kind, told)
    unknown = [f"{name}={config[name]!r} is not known" for name in sorted(fields.left)]
    if fields.problems or unknown:
        why = "; ".join([*dict.fromkeys(fields.problems), *unknown])
        raise UserError(f"llama.cpp cannot hold this {kind}: {why}. to=hf writes it for transformers.")
    return {f"{arch.name}.{key}": value for key, value in told.items()}


def warn_of_gelu(config: Mapping[str, Any]) -> None:
    """Say so where llama.cpp computes GELU otherwise than the model does."""
    name, value = _activation(config)
    if value == "gelu":
        _log.warning("%s=gelu: llama.cpp computes it by its tanh form, so its logits differ a little.", name)


def _activation(config: Mapping[str, Any]) -> tuple[str, Any]:
    """The field that tells the activation, and its value."""
    names = ("hidden_act", "hidden_activation", "activation", "activation_function")
    return next(((name, config[name]) for name in names if name in config), (names[0], None))


def frequency_factors(rope: Mapping[str, Any], head: int) -> list[float]:
    """What each frequency of a head is divided by, where positions are scaled as in Llama 3.1."""
    factor, original = rope["factor"], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    found = []
    for at in range(0, head, 2):
        turns = original * rope["rope_theta"] ** (-at / head) / (2 * math.pi)  # in the first context
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        found.append(1.0 / ((1.0 - kept) / factor + kept))
    return found


def _one(fields: Fields, *names: str) -> int:
    """A whole number that has one of these names."""
    return fields.whole(next((name for name in names if name in fields.config), names[0]))


def _eps(fields: Fields) -> dict[str, Value]:
    for name in ("layer_norm_eps", "layer_norm_epsilon"):
        if name in fields.config:
            return {"attention.layer_norm_epsilon": float(fields.take(name))}
    return {"attention.layer_norm_rms_epsilon": float(fields.take("rms_norm_eps"))}


def _rope(fields: Fields, arch: Architecture, head: int, told: Mapping[str, Value]) -> dict[str, Value]:
    """The keys of rotary positions; those of layers with a window may have a base of their own."""
    ropes = fields.take("rope_parameters")
    rope, local = dict(ropes.get("full_attention", ropes)), ropes.get("sliding_attention")
    kind, fraction = rope.pop("rope_type", "default"), rope.pop("partial_rotary_factor", 1.0)
    made: dict[str, Value] = {"rope.freq_base": float(rope.pop("rope_theta"))}
    if local is not None:
        made["rope.freq_base_swa"] = float(local["rope_theta"])
        if local.get("rope_type", "default") != "default":
            fields.problems.append("layers with a window have scaled positions")
    if kind not in arch.ropes:
        fields.problems.append(
            f"rope_type={kind!r}: llama.cpp's {arch.name} computes {' or '.join(arch.ropes)}"
        )
    turning = int(head * fraction)
    if turning % 2 or turning < 2 or (turning != head and not arch.partial):
        fields.problems.append(
            f"{turning} of {head} numbers of a head turn, which {arch.name} does not compute"
        )
    made["rope.dimension_count"] = turning
    if kind in {"linear", "yarn"}:
        made |= {"rope.scaling.type": kind, "rope.scaling.factor": float(rope.pop("factor"))}
    original = rope.pop("original_max_position_embeddings", told["context_length"])
    if kind == "yarn":
        made["rope.scaling.original_context_length"] = original
        factor = float(made["rope.scaling.factor"])
        usual = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True, "attention_factor": _strength(factor)}
        for name, value in usual.items():
            given = rope.pop(name, value)
            if not math.isclose(given, value, rel_tol=1e-6):
                fields.problems.append(f"{name}={given}: llama.cpp reads none, and computes {value}")
        if factor < 1:
            fields.problems.append(f"factor={factor}: llama.cpp computes YaRN of 1 or more")
    if kind == "llama3":
        rope = {}  # as frequency factors, beside the weights
    fields.problems += [f"rope_parameters holds {name}" for name in rope]
    return made


def _strength(factor: float) -> float:
    return 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0


def _windows(fields: Fields, kind: str, told: Mapping[str, Any]) -> dict[str, Value]:
    """The key of a sliding window; Gemma alone has one in llama.cpp, in layers that it fixes."""
    count, used = told["block_count"], fields.take("use_sliding_window", True)
    window, types = fields.take("sliding_window", None), fields.take("layer_types", None)
    fields.take("max_window_layers", None)
    slides = [t == "sliding_attention" for t in types] if types else [bool(used and window)] * count
    if kind == "phi3":
        made: dict[str, Value] = {"attention.sliding_window": 0}  # said, as some versions guess one
    else:
        made = {}
    if not window or not any(slides):
        return made if kind != "gemma2" else {"attention.sliding_window": told["context_length"]}
    every = {"gemma2": 2, "gemma3_text": 6}.get(kind)  # as all its versions have it
    if every and slides == [(i + 1) % every != 0 for i in range(count)]:
        return {"attention.sliding_window": window}
    if window >= told["context_length"] and kind != "gemma3_text":  # where windows go with other positions
        return {"attention.sliding_window": window} if kind == "gemma2" else made
    where = {2: "slides in the first of each two layers", 6: "slides in the first five of each six layers"}
    fields.refuse(
        "sliding_window", f"llama.cpp's {ARCHITECTURES[kind].name} {where.get(every or 0, 'has no windows')}"
    )
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
