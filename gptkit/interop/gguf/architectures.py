"""How llama.cpp computes each family of `transformers` that it runs, and why it runs no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_TANH = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")
_GELU = (*_TANH, "gelu")
_ROPES = ("default", "linear", "yarn")


@dataclass(frozen=True)
class Architecture:
    """How llama.cpp computes a family.

    Attributes:
        name: llama.cpp's own, which begins its keys.
        member: its name in `gguf.MODEL_ARCH`.
        activations: of the feed-forward networks.
        own_activation: of a family whose config tells none.
        ropes: the scalings of rotary positions; none where positions are learned or biases.
        fixed: the only values that it computes of the family's own fields.
        partial: a part of each head may turn.
        wide: heads may have any width.
        own_head: it wants the table of the head by itself, even where it is the embedding's.
        paired: neighbouring numbers of a head turn together, not those half a head apart.
        shift: what is added to the gains of its norms.
        whole: one layer in so many has no sliding window, the others have one; 0 if none has.
        still: one layer in so many has no positions; 0 if all have.
        latent: keys and values are kept as one short vector.
    """

    name: str
    member: str
    activations: tuple[str, ...] = ("silu",)
    ropes: tuple[str, ...] = _ROPES
    fixed: tuple[tuple[str, Any], ...] = ()
    own_activation: str = ""
    partial: bool = False
    wide: bool = False
    own_head: bool = False
    paired: bool = False
    shift: float = 0.0
    whole: int = 0
    still: int = 0
    latent: bool = False


_NO_BIAS = (("attention_bias", False),)
_GPT2_SCALES = (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False))
_ALL_EXPERTS = (("norm_topk_prob", True), ("decoder_sparse_step", 1), ("mlp_only_layers", []))
_LLAMA = Architecture("llama", "LLAMA", ropes=(*_ROPES, "llama3"), wide=True, paired=True)
ARCHITECTURES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "qwen2": Architecture("qwen2", "QWEN2"),
    "qwen3": Architecture("qwen3", "QWEN3", fixed=_NO_BIAS, wide=True),
    "qwen3_moe": Architecture("qwen3moe", "QWEN3MOE", fixed=(*_NO_BIAS, *_ALL_EXPERTS), wide=True),
    "gpt2": Architecture("gpt2", "GPT2", _GELU, (), _GPT2_SCALES),
    "gpt_neox": Architecture(
        "gptneox", "GPTNEOX", _GELU, fixed=(("attention_bias", True),), partial=True, own_head=True
    ),
    "gemma2": Architecture(
        "gemma2", "GEMMA2", _TANH, ("default",), (*_NO_BIAS, ("tie_word_embeddings", True)), wide=True, shift=1.0,
        whole=2,
    ),
    "gemma3_text": Architecture("gemma3", "GEMMA3", _TANH, _ROPES[:2], _NO_BIAS, wide=True, shift=1.0, whole=6),
    "phi3": Architecture("phi3", "PHI3", ropes=("default",), partial=True),
    "falcon": Architecture(
        "falcon", "FALCON", _GELU, fixed=(("bias", False), ("parallel_attn", True), ("alibi", False))
    ),
    "stablelm": Architecture(
        "stablelm", "STABLELM", fixed=(("qk_layernorm", False),), partial=True, own_head=True
    ),
    "olmo2": Architecture("olmo2", "OLMO2", fixed=_NO_BIAS, own_head=True),
    "smollm3": Architecture("smollm3", "SMOLLM3", fixed=(*_NO_BIAS, ("mlp_bias", False)), paired=True, still=4),
    "bloom": Architecture("bloom", "BLOOM", _TANH, (), own_activation="gelu_new"),
    "mpt": Architecture("mpt", "MPT", _GELU, (), own_activation="gelu"),
    "gpt_oss": Architecture(
        "gpt-oss", "GPT_OSS", fixed=(("attention_bias", True),), wide=True, own_head=True, whole=2
    ),
    "deepseek_v3": Architecture(
        "deepseek2", "DEEPSEEK2", ropes=("default", "yarn"), fixed=_NO_BIAS, wide=True, own_head=True, paired=True,
        latent=True,
    ),
}  # fmt: skip
ABSENT = {
    "gptj": "llama.cpp knows the name gptj, but computes no such model",
    "opt": "llama.cpp has no such architecture",
    "openai-gpt": "llama.cpp has no such architecture",
}
