"""Small models of each family as Hugging Face's transformers makes them, and ours made of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from gptkit.interop.hugging_face import from_hf

transformers = pytest.importorskip("transformers")

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LONG = {**SMALL, "max_position_embeddings": 64}
LLAMA = {**LONG, "intermediate_size": 40, "num_key_value_heads": 2}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}  # fmt: skip
LONGROPE = {"rope_type": "longrope", "rope_theta": 100.0, "original_max_position_embeddings": 32,
            "short_factor": [1.0, 1.5, 2.0, 3.0], "long_factor": [2.0, 3.0, 5.0, 9.0]}  # fmt: skip
TYPES = ["full_attention", "sliding_attention"]
GEMMA = {**LLAMA, "head_dim": 8, "query_pre_attn_scalar": 16, "sliding_window": 5}
GPTJ = {
    "vocab_size": 50,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
OPT = {**LONG, "ffn_dim": 40, "word_embed_proj_dim": 32}
GPT1 = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
BLOOM = {"vocab_size": 50, "hidden_size": 32, "n_layer": 2, "n_head": 4}
MPT = {"vocab_size": 50, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}
QWEN3_MOE = {**LLAMA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
GPT_OSS = {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 5,
           "rope_parameters": {**YARN, "truncate": False}}  # fmt: skip
DEEPSEEK = {**LLAMA, "num_key_value_heads": 4, "moe_intermediate_size": 16, "n_routed_experts": 8, "kv_lora_rank": 8,
            "q_lora_rank": 12, "qk_rope_head_dim": 4, "v_head_dim": 6, "qk_nope_head_dim": 8, "n_group": 4,
            "topk_group": 2, "num_experts_per_tok": 3, "first_k_dense_replace": 1}  # fmt: skip
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("gpt_neox", {**LONG, "intermediate_size": 48}),
    ("gpt_neox", {**LONG, "intermediate_size": 24, "use_parallel_residual": False, "tie_word_embeddings": True,
                  "attention_bias": False, "hidden_act": "gelu_new", "num_attention_heads": 2}),
    ("gpt_neox", {**LONG, "intermediate_size": 48, "layer_norm_eps": 1e-3, "num_hidden_layers": 1, "hidden_act": "relu",
                  "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0, "partial_rotary_factor": 1.0}}),
    ("gptj", {**GPTJ, "rotary_dim": 4}),
    ("gptj", {**GPTJ, "rotary_dim": 8, "n_inner": 40, "activation_function": "gelu", "layer_norm_epsilon": 1e-3}),
    ("gptj", {**GPTJ, "rotary_dim": 8, "n_head": 2, "n_layer": 3}),
    ("opt", OPT),
    ("opt", {**OPT, "do_layer_norm_before": False, "enable_bias": False}),
    ("opt", {**OPT, "num_attention_heads": 2, "activation_function": "gelu", "tie_word_embeddings": False}),
    ("falcon", LONG),
    ("falcon", {**LONG, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}),
    ("falcon", {**LONG, "new_decoder_architecture": True, "num_kv_heads": 1, "num_ln_in_parallel_attn": 2}),
    ("falcon", {**LONG, "multi_query": False, "parallel_attn": False, "bias": True, "ffn_hidden_size": 40}),
    ("falcon", {**LONG, "multi_query": False, "tie_word_embeddings": False,
                "rope_parameters": {"rope_type": "default", "rope_theta": 77.0}}),
    ("llama", LLAMA),
    ("llama", {**LLAMA, "num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("llama", {**LLAMA, "head_dim": 12, "rms_norm_eps": 1e-3, "rope_parameters": LLAMA3}),
    ("llama", {**LLAMA, "num_key_value_heads": 1, "hidden_act": "relu", "rope_parameters": YARN}),
    ("mistral", {**LLAMA, "sliding_window": 5}),
    ("mistral", {**LLAMA, "sliding_window": None, "head_dim": 16, "rms_norm_eps": 1e-3}),
    ("qwen2", LLAMA),
    ("qwen2", {**LLAMA, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1, "layer_types": TYPES}),
    ("qwen2", {**LLAMA, "tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    ("qwen3", LLAMA),
    ("qwen3", {**LLAMA, "head_dim": 12, "attention_bias": True, "tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
    ("qwen3", {**LLAMA, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0, "layer_types": TYPES[1:] * 2}),
    ("olmo2", LLAMA),
    ("olmo2", {**LLAMA, "attention_bias": True, "num_key_value_heads": 4, "rms_norm_eps": 1e-3}),
    ("phi3", {**LLAMA, "pad_token_id": None}),
    ("phi3", {**LLAMA, "pad_token_id": None, "sliding_window": 6, "num_key_value_heads": 4}),
    ("phi3", {**LLAMA, "pad_token_id": None, "original_max_position_embeddings": 32, "rope_parameters": LONGROPE}),
    ("smollm3", {**LLAMA, "num_hidden_layers": 4, "pad_token_id": None}),
    ("smollm3", {**LLAMA, "no_rope_layers": [0, 1], "pad_token_id": None, "tie_word_embeddings": False, "mlp_bias": True}),
    ("stablelm", LLAMA),
    ("stablelm", {**LLAMA, "use_qkv_bias": True, "use_parallel_residual": True, "layer_norm_eps": 1e-3}),
    ("gemma2", {**GEMMA, "layer_types": TYPES}),
    ("gemma2", {**GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0, "query_pre_attn_scalar": 50,
                "head_dim": 12, "layer_types": TYPES[::-1], "rms_norm_eps": 1e-3}),
    ("gemma2", {**GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None, "layer_types": TYPES[:1] * 2}),
    ("gemma3_text", {**GEMMA, "layer_types": TYPES}),
    ("gemma3_text", {**GEMMA, "num_hidden_layers": 3, "layer_types": [*TYPES, TYPES[1]], "head_dim": 12, "rms_norm_eps": 1e-3,
                     "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 30.0},
                                         "full_attention": {"rope_type": "default", "rope_theta": 300.0}}}),
    ("openai-gpt", GPT1),
    ("openai-gpt", {**GPT1, "n_head": 2, "afn": "relu", "layer_norm_epsilon": 1e-3, "tie_word_embeddings": False}),
    ("openai-gpt", {**GPT1, "n_layer": 1, "n_positions": 30}),
    ("bloom", BLOOM),
    ("bloom", {**BLOOM, "n_head": 3, "hidden_size": 24, "layer_norm_epsilon": 1e-3, "tie_word_embeddings": False}),
    ("bloom", {**BLOOM, "n_head": 8, "n_layer": 1}),
    ("mpt", MPT),
    ("mpt", {**MPT, "n_heads": 2, "layer_norm_epsilon": 1e-3, "tie_word_embeddings": False}),
    ("mpt", {**MPT, "n_layers": 1, "attn_config": {"softmax_scale": 0.3}}),
    ("mixtral", {**LLAMA, "num_local_experts": 4}),
    ("mixtral", {**LLAMA, "num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 5, "tie_word_embeddings": True}),
    ("qwen3_moe", QWEN3_MOE),
    ("qwen3_moe", {**QWEN3_MOE, "norm_topk_prob": True, "head_dim": 12, "attention_bias": True, "tie_word_embeddings": True}),
    ("qwen3_moe", {**QWEN3_MOE, "num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3], "num_experts_per_tok": 3}),
    ("gpt_oss", GPT_OSS),
    ("gpt_oss", {**GPT_OSS, "layer_types": TYPES, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    ("gpt_oss", {**GPT_OSS, "num_hidden_layers": 3, "layer_types": [*TYPES, TYPES[1]], "num_key_value_heads": 4, "tie_word_embeddings": True}),
    ("deepseek_v3", DEEPSEEK),
    ("deepseek_v3", {**DEEPSEEK, "q_lora_rank": None, "first_k_dense_replace": 0, "n_group": 1, "topk_group": 1, "norm_topk_prob": False,
                     "rope_interleave": False}),
    ("deepseek_v3", {**DEEPSEEK, "n_shared_experts": 2, "attention_bias": True, "first_k_dense_replace": 2, "num_hidden_layers": 3,
                     "routed_scaling_factor": 1.3, "rms_norm_eps": 1e-3,
                     "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2}}),
    ("gpt2", {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
]  # fmt: skip
IDS = [f"{kind}{number}" for number, (kind, _) in enumerate(FAMILIES)]


def theirs(kind: str, options: dict[str, Any]) -> Any:
    """A small model of the family with weights large enough that nothing hides."""
    return scattered(transformers.AutoConfig.for_model(kind, **options))


def scattered(config: Any) -> Any:
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
        for name, buffer in model.named_buffers():
            if name.endswith("correction_bias"):
                buffer.copy_(torch.randn_like(buffer) * 0.3)
    return model


def ours(model: Any) -> Any:
    return from_hf(json.loads(json.dumps(model.config.to_dict())), model.state_dict())


def written(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a config.json of the family holds."""
    return json.loads(json.dumps(transformers.AutoConfig.for_model(kind, **options).to_dict()))


def read_alike(config: dict[str, Any]) -> float:
    """How far our model of a config.json is from what transformers makes of it."""
    kind = transformers.AutoConfig.for_model(config["model_type"])
    peer, x = scattered(type(kind).from_dict(json.loads(json.dumps(config)))), tokens()
    with torch.no_grad():
        return differ(from_hf(config, peer.state_dict())(x), peer(x).logits)


def tokens(batch: int = 2, length: int = 21) -> Tensor:
    return torch.randint(0, 50, (batch, length), generator=torch.Generator().manual_seed(4))


def differ(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


ROTARY = [
    "deepseek_v3", "falcon", "gemma2", "gpt_neox", "gpt_oss", "llama", "mistral", "mixtral", "olmo2", "phi3", "qwen2",
    "qwen3", "qwen3_moe", "smollm3", "stablelm",
]  # fmt: skip


def longrope(kind: str, **told: Any) -> dict[str, Any]:
    """A small model of the family, made for 64 tokens, whose positions were first made for 32."""
    wide = (
        {"qk_rope_head_dim": 8}
        if kind == "deepseek_v3"
        else {"head_dim": 8}
        if kind in {"mixtral", "qwen3"}
        else {}
    )
    own = {"original_max_position_embeddings": 32} if kind == "phi3" else {}
    return {
        **first(kind),
        **wide,
        **own,
        "rope_parameters": {**LONGROPE, "partial_rotary_factor": 1.0, **told},
    }


def first(kind: str) -> dict[str, Any]:
    return next(options for name, options in FAMILIES if name == kind)
