"""Each family against Hugging Face's own model: the same logits, both ways, padded, cached, in several shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gptkit.errors import RunError, UserError
from gptkit.interop import families
from gptkit.interop.fields import NEUTRAL
from gptkit.interop.hugging_face import from_hf, load_hf, save_hf, section_of, to_hf

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


@pytest.mark.parametrize(("kind", "options"), FAMILIES, ids=IDS)
def test_the_same_logits_plain_padded_and_cached(kind: str, options: dict[str, Any]) -> None:
    peer = theirs(kind, options)
    model, x = ours(peer), tokens()
    with torch.no_grad():
        expected = peer(x).logits
        assert differ(model(x), expected) < 1e-5
        mask = torch.ones_like(x)
        mask[0, :6] = 0
        at = (mask.cumsum(-1) - 1).clamp(min=0)
        padded = peer(
            x, attention_mask=mask, **({} if kind in {"opt", "bloom", "mpt"} else {"position_ids": at})
        ).logits
        assert differ(model(x, padding=mask == 0)[0, 6:], padded[0, 6:]) < 1e-5
        for cut in (1, 9, 20):
            caches = model.new_caches(2, 21)
            parts = [model(x[:, :cut], caches=caches)]
            parts += [model(x[:, i : i + 1], caches=caches) for i in range(cut, 21)]
            assert differ(torch.cat(parts, dim=1), expected) < 1e-5


@pytest.mark.parametrize(("kind", "options"), FAMILIES, ids=IDS)
def test_the_same_logits_in_64_bits(
    kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = theirs(kind, options).double()
    peer.config._experts_implementation = "eager"  # the fused one knows 32 bits at most
    model, x = ours(peer), tokens()
    found = model(x)
    widen(monkeypatch)
    exact_rotations(peer)
    with torch.no_grad():
        assert differ(found, peer(x).logits) < 1e-10


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


@pytest.mark.parametrize("kind", ROTARY)
def test_longrope_goes_by_the_length_of_the_text(kind: str, tmp_path: Path) -> None:
    peer = theirs(kind, longrope(kind))
    model = ours(peer)
    back = transformers.AutoModelForCausalLM.from_pretrained(save_hf(model, tmp_path / "out", kind)).eval()
    with torch.no_grad():
        for length in (32, 33, 40):
            x = tokens(2, length)
            assert differ(model(x), peer(x).logits) < 1e-5
            assert differ(back(x).logits, peer(x).logits) < 1e-5
        caches = model.new_caches(2, 40)
        model(tokens(2, 20), caches=caches)
        with pytest.raises(UserError, match="past the original context of 32"):
            model(tokens(2, 15), caches=caches)
        caches = model.new_caches(2, 40)
        x = tokens(2, 40)
        parts = [model(x[:, :35], caches=caches), model(x[:, 35:], caches=caches)]
        assert differ(torch.cat(parts, dim=1), peer(x).logits) < 1e-5


@pytest.mark.parametrize("kind", ["llama", "phi3"])
@pytest.mark.parametrize(
    "told", [{"factor": 8.0}, {"factor": 1.0}, {"factor": 8.0, "attention_factor": 0.7}], ids=str
)
def test_longrope_s_factor_tells_its_strength(kind: str, told: dict[str, float], tmp_path: Path) -> None:
    peer = theirs(kind, longrope(kind, **told))
    model = ours(peer)
    back = transformers.AutoModelForCausalLM.from_pretrained(save_hf(model, tmp_path / "out", kind)).eval()
    with torch.no_grad():
        for length in (20, 40):
            x = tokens(2, length)
            assert differ(model(x), peer(x).logits) < 1e-5
            assert differ(back(x).logits, peer(x).logits) < 1e-5


def test_longrope_that_transformers_cannot_be_told_is_refused() -> None:
    import gptkit

    words = [
        "tokenizer=byte", "model=llama2_7b", "model.n_layers=1", "model.d_model=32", "model.n_heads=4", "model.d_ff=40",
        "model.context_length=64", "position=rotary_longrope", "model.position.original_context=16",
    ]  # fmt: skip
    factors = [f"model.position.{kind}_factors=[1,2,3,4]" for kind in ("short", "long")]
    for more, why in (([], "short_factors is null"), (factors, "by_length is false")):
        with pytest.raises(UserError, match=f"llama cannot hold this model: its {why}"):
            to_hf(gptkit.build(gptkit.compose([*words, *more])), "llama")
    both = [*words, *factors, "model.position.by_length=true"]
    assert to_hf(gptkit.build(gptkit.compose(both)), "llama")[0]["rope_parameters"]["long_factor"] == [
        1,
        2,
        3,
        4,
    ]


def widen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let their angles, scores and softmax, which ask for 32 bits by name, have 64."""
    to, softmax = torch.Tensor.to, torch.nn.functional.softmax

    def wide(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        swap = {torch.float32: torch.float64}
        args = tuple(swap.get(a, a) if isinstance(a, torch.dtype) else a for a in args)
        return to(
            self, *args, **{k: swap.get(v, v) if isinstance(v, torch.dtype) else v for k, v in kwargs.items()}
        )

    monkeypatch.setattr(torch.Tensor, "to", wide)
    monkeypatch.setattr(torch.Tensor, "type", wide)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim=-1, dtype=None: softmax(x, dim=dim))


def exact_rotations(model: Any) -> None:
    """Give their tables of frequencies and angles, and constants, the digits that 32 bits left out."""
    for module in model.modules():
        for kind in ("sliding_attention", "full_attention"):
            if hasattr(module, f"{kind}_inv_freq"):
                width = 2 * getattr(module, f"{kind}_inv_freq").numel()
                base = module.config.rope_parameters[kind]["rope_theta"]
                exact = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
                setattr(module, f"{kind}_inv_freq", exact)
        if hasattr(module, "gelu_impl"):  # BLOOM's sqrt(2 / pi) has eight digits
            module.gelu_impl = torch.nn.GELU("tanh")
        if hasattr(module, "embed_scale"):
            module.embed_scale = torch.tensor(module.scalar_embed_scale, dtype=torch.float64)
        if hasattr(module, "inv_freq"):
            width = 2 * module.inv_freq.numel()
            rope = module.config.rope_parameters
            exact = rope["rope_theta"] ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
            if rope["rope_type"] in {"default", "linear"}:
                module.inv_freq = exact / rope.get("factor", 1.0)
            else:  # their formula, in 64 bits
                formula = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS[rope["rope_type"]]
                module.inv_freq, module.attention_scaling = formula(module.config, torch.device("cpu"))
                module.original_inv_freq = module.inv_freq
        if hasattr(module, "embed_positions") and isinstance(module.embed_positions, Tensor):
            rows, width = module.embed_positions.shape
            exact = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
            angle = torch.arange(rows, dtype=torch.float64)[:, None] * exact
            module.embed_positions = torch.cat([angle.sin(), angle.cos()], dim=1)


@pytest.mark.parametrize(("kind", "options"), FAMILIES, ids=IDS)
def test_back_again_whole(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    peer = theirs(kind, options)
    model, x = ours(peer), tokens()
    place = save_hf(model, tmp_path / "out", kind)
    assert json.loads((place / "config.json").read_text())["model_type"] == kind
    back, loading = transformers.AutoModelForCausalLM.from_pretrained(place, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), loading
    with torch.no_grad():
        assert differ(back.eval()(x).logits, peer(x).logits) < 1e-5
    peer.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists()
    with torch.no_grad():
        assert torch.equal(load_hf(tmp_path / "theirs")(x), model(x))
        assert torch.equal(load_hf(place)(x), model(x))


@pytest.mark.parametrize("kind", families.names())
def test_a_field_that_is_not_known_is_refused_by_name(kind: str) -> None:
    options = next(options for name, options in FAMILIES if name == kind)
    config = json.loads(json.dumps(transformers.AutoConfig.for_model(kind, **options).to_dict()))
    section_of(config)
    with pytest.raises(UserError, match="clever_new_thing=3 is not known"):
        section_of({**config, "clever_new_thing": 3})
    sizes = [key for key in config if key in {"hidden_size", "n_embd", "d_model"}]
    with pytest.raises(UserError, match=f"{sizes[0]} is missing|whole numbers for {sizes[0]}"):
        section_of({key: value for key, value in config.items() if key != sizes[0]})


ROOM = {
    "deepseek_v3": {"topk_group": 4},
    "qwen3_moe": {"num_experts": 8},
}  # for as many experts as files ask for


@pytest.mark.parametrize("kind", families.names())
def test_where_a_file_is_silent_the_family_s_own_value_is_taken(kind: str) -> None:
    config = written(kind, {**first(kind), **ROOM.get(kind, {})})
    for name in config.keys() - NEUTRAL:
        rest = {key: value for key, value in config.items() if key != name}
        try:
            section_of(rest)
        except UserError as error:
            assert name in str(error)
            continue
        try:
            far = read_alike(rest)
        except (IndexError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
            assert not isinstance(error, UserError), name
            continue  # transformers has no such model either
        assert far < 1e-5, name


@pytest.mark.parametrize("kind", ["gpt_oss", "mistral", "qwen2", "qwen3", "qwen3_moe"])
def test_a_window_that_a_file_is_silent_of_is_the_family_s(kind: str) -> None:
    config = {**written(kind, first(kind)), "use_sliding_window": True, "max_window_layers": 0}
    if kind in {"gpt_oss", "mistral"}:
        del config["use_sliding_window"], config["max_window_layers"]
    del config["sliding_window"]
    config.pop("layer_types", None)
    section = section_of(config)
    mask = section["layers"]["0"]["mask"] if kind == "gpt_oss" else section["mask"]
    reader = type(transformers.AutoConfig.for_model(kind))
    assert mask["sliding_window"]["window"] == reader.from_dict(config).sliding_window


@pytest.mark.parametrize("kind", ["mixtral", "smollm3", "gpt_oss"])
def test_the_base_of_a_family_holds_beside_older_scaling_too(kind: str) -> None:
    config = written(kind, first(kind))
    for silent in ({}, {"rope_parameters": None}):
        both = {
            key: value
            for key, value in {**config, **silent}.items()
            if key in silent or key != "rope_parameters"
        }
        assert read_alike(both) < 1e-5
        assert read_alike({**both, "rope_scaling": LINEAR}) < 1e-5


@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text"])
def test_gemma_s_activation_is_told_by_one_field(kind: str) -> None:
    config = written(kind, first(kind))
    assert read_alike({**config, "hidden_act": "silu"}) < 1e-5
    with pytest.raises(UserError, match="hidden_activation='gelu': known are"):
        section_of({**config, "hidden_activation": "gelu"})
    with pytest.raises(UserError, match="hidden_activation='silu' is not known"):
        section_of({**written("llama", LLAMA), "hidden_activation": "silu"})


# What published files of each family say beside the rest, and a value that would mean another model.
BESIDE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("gemma2", {"cache_implementation": "hybrid"}, {}),
    ("gemma3_text", {"cache_implementation": "hybrid"}, {}),
    ("gpt_oss", {"experts_per_token": 2, "initial_context_length": 16}, {"experts_per_token": 3}),
    ("gpt_oss", {}, {"initial_context_length": 32}),
    ("phi3", {"attention_bias": False}, {"attention_bias": True}),
    ("smollm3", {"max_window_layers": 28}, {}),
    ("falcon", {"apply_residual_connection_post_layernorm": False}, {"apply_residual_connection_post_layernorm": True}),
    ("gptj", {"rotary": True, "summary_type": "cls_index", "summary_activation": None}, {"rotary": False}),
    ("gpt_neox", {"attention_probs_dropout_prob": 0, "hidden_dropout_prob": 0}, {"hidden_dropout_prob": 0.1}),
    ("gpt_neox", {}, {"attention_probs_dropout_prob": 0.1}),
    ("qwen2", {"use_mrope": False}, {"use_mrope": True}),
    ("openai-gpt", {"n_special": 0, "n_ctx": 64, "predict_special_tokens": True}, {"n_special": 40}),
    ("gpt2", {"n_ctx": 64, "summary_type": "cls_index", "gradient_checkpointing": False, "_num_labels": 1}, {}),
    ("gpt2", {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True}, {}),
    ("deepseek_v3", {"head_dim": 4, "qk_head_dim": 12}, {"head_dim": 2}),
    ("deepseek_v3", {"num_nextn_predict_layers": 1, "ep_size": 1}, {"qk_head_dim": 16}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "neutral", "other"), BESIDE, ids=[kind for kind, _, _ in BESIDE])
def test_what_published_files_say_beside_the_rest(
    kind: str, neutral: dict[str, Any], other: dict[str, Any]
) -> None:
    config = written(kind, first(kind))
    assert read_alike({**config, **neutral}) < 1e-5
    for name, value in other.items():
        with pytest.raises(UserError, match=f"{name}={value!r}: only"):
            section_of({**config, **neutral, name: value})


LINEAR = {"rope_type": "linear", "factor": 4.0}


@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text", "llama", "qwen2", "stablelm"])
@pytest.mark.parametrize(
    "told",
    [
        {"rope_theta": 50.0},
        {"rope_theta": 50.0, "rope_scaling": None},
        {"rope_theta": 50.0, "rope_scaling": LINEAR},
        {"rope_scaling": LINEAR},
    ],
    ids=str,
)
def test_older_fields_of_rotary_positions(kind: str, told: dict[str, Any]) -> None:
    config = {**written(kind, first(kind)), **told}
    del config["rope_parameters"]
    assert read_alike(config) < 1e-5


@pytest.mark.parametrize("kind", ["deepseek_v3", "falcon", "gpt_neox", "gpt_oss", "llama", "olmo2"])
def test_of_two_fields_of_rotary_positions_the_older_one_rules(kind: str) -> None:
    both = {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}, "rope_scaling": LINEAR}
    assert read_alike({**written(kind, first(kind)), **both}) < 1e-5


def test_gemma_3_s_older_fields_tell_its_two_bases_and_its_layers() -> None:
    config = written("gemma3_text", {**GEMMA, "num_hidden_layers": 3})
    for name in ("rope_parameters", "layer_types", "_sliding_window_pattern"):
        del config[name]
    old = {
        "rope_theta": 300.0,
        "rope_local_base_freq": 30.0,
        "rope_scaling": LINEAR,
        "sliding_window_pattern": 2,
    }
    for count in range(len(old) + 1):
        assert read_alike({**config, **dict(list(old.items())[:count])}) < 1e-5
    assert read_alike({**config, **old, "_sliding_window_pattern": 3}) < 1e-5
    local = {"sliding_attention": {"rope_type": "default", "rope_theta": 20.0}}
    assert read_alike({**config, **old, "rope_scaling": None, "rope_parameters": local}) < 1e-5
    for flat in ({"rope_theta": 20.0}, {**local, "full": {}}):
        with pytest.raises(UserError, match="rope_parameters=.*: only sliding_attention and full_attention"):
            section_of({**config, "rope_parameters": flat})


def test_gpt_neox_knows_its_positions_by_names_of_its_own() -> None:
    config = written("gpt_neox", first("gpt_neox"))
    del config["rope_parameters"]
    assert read_alike({**config, "rotary_emb_base": 50, "rotary_pct": 0.5}) < 1e-5
    assert (
        read_alike({**config, "rotary_emb_base": 50, "rope_theta": 50.0, "partial_rotary_factor": 0.25})
        < 1e-5
    )
    with pytest.raises(UserError, match=r"rope_theta=50.0: only 10000.0 can be held"):
        section_of({**config, "rope_theta": 50.0})
    with pytest.raises(UserError, match="rotary_pct=0.5 is not known"):
        section_of({**written("llama", LLAMA), "rotary_pct": 0.5})


def test_positions_that_a_family_does_not_have_are_refused() -> None:
    with pytest.raises(UserError, match="partial_rotary_factor=0.5: this family turns whole heads"):
        section_of({**written("llama", LLAMA), "partial_rotary_factor": 0.5, "rope_parameters": None})
    phi3 = written("phi3", first("phi3"))
    with pytest.raises(UserError, match="rope_type='linear': only default and longrope"):
        section_of({**phi3, "rope_parameters": {**LINEAR, "rope_theta": 50.0}})
    deepseek = written("deepseek_v3", first("deepseek_v3"))
    with pytest.raises(UserError, match="rope_scaling holds mscale_all_dim, not known for 'linear'"):
        section_of({**deepseek, "rope_scaling": {**LINEAR, "mscale_all_dim": 1.0}})


def test_phi_3_s_original_context_stands_beside_its_positions() -> None:
    told = {**LONGROPE, "original_max_position_embeddings": 8}
    config = {**written("phi3", longrope("phi3")), "rope_parameters": told}
    assert read_alike(config) < 1e-5
    assert read_alike({**config, "original_max_position_embeddings": 16}) < 1e-5
    del config["original_max_position_embeddings"]
    assert read_alike(config) < 1e-5


@pytest.mark.parametrize(
    "told",
    [
        {"clever_new_thing": 3},
        {"n_inner": 48, "rotary": True},
        {"hidden_size": 32},
        {"num_key_value_heads": 2},
    ],
    ids=str,
)
def test_a_gpt2_with_more_than_gpt2_has_is_refused(told: dict[str, Any]) -> None:
    peer = theirs("gpt2", first("gpt2"))
    with pytest.raises(UserError, match=f"{list(told)[-1]}={list(told.values())[-1]!r} is not known"):
        from_hf({**peer.config.to_dict(), **told}, peer.state_dict())


@pytest.mark.parametrize("kind", families.names())
@pytest.mark.parametrize("value", [None, "much"], ids=str)
def test_a_value_that_is_none_is_refused_by_the_field_s_name(kind: str, value: str | None) -> None:
    config = written(kind, first(kind))
    for name in config.keys() - NEUTRAL:
        if type(config[name]) in {int, float}:
            try:
                section_of({**config, name: value})
            except UserError as error:
                assert name in str(error)


def test_what_cannot_be_held_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model_type='gpt_neo' cannot be read. Did you mean 'gpt_neox'\?"):
        section_of({"model_type": "gpt_neo"})
    with pytest.raises(UserError, match="word_embed_proj_dim=16: only 32"):
        section_of({**OPT, "model_type": "opt", "word_embed_proj_dim": 16})
    with pytest.raises(UserError, match="rope_type='spiral' is not known"):
        section_of({**LONG, "model_type": "falcon", "rope_parameters": {"rope_type": "spiral"}})
    with pytest.raises(UserError, match="alibi=True: Falcon rounds"):
        section_of({**LONG, "model_type": "falcon", "alibi": True})
    with pytest.raises(UserError, match="has no config.json"):
        load_hf(tmp_path)


def test_falcon_s_alibi_is_no_function_of_distance() -> None:
    from transformers.models.falcon.modeling_falcon import build_alibi_tensor

    bias = build_alibi_tensor(torch.ones(1, 2048, dtype=torch.long), 32, torch.float32)[0, 0]
    steps = bias.diff()  # of ALiBi, all alike
    assert steps.min() == 0
    assert steps.max() > 4 * steps.mean()


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    peer = theirs("opt", OPT)
    config, state = peer.config.to_dict(), dict(peer.state_dict())
    less = {name: tensor for name, tensor in state.items() if not name.endswith("layers.1.fc1.bias")}
    with pytest.raises(UserError, match="layers.1.fc1.bias is missing"):
        from_hf(config, less)
    with pytest.raises(UserError, match="model.extra belongs to nothing"):
        from_hf(config, {**state, "model.extra": torch.zeros(1)})
    name = "model.decoder.final_layer_norm.weight"
    with pytest.raises(UserError, match="norm.weight"):
        from_hf(config, {**state, name: torch.zeros(31)})
    (tmp_path / "config.json").write_text(json.dumps(config))
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="names no files of weights beside it"):
        load_hf(tmp_path)


def test_deepseek_s_layers_that_predict_further_tokens_are_not_read() -> None:
    peer = theirs("deepseek_v3", DEEPSEEK)
    config, state, x = peer.config.to_dict(), dict(peer.state_dict()), tokens()
    further = {
        "model.layers.2.eh_proj.weight": torch.zeros(32, 64),
        "model.layers.2.enorm.weight": torch.zeros(32),
    }
    with torch.no_grad():
        model = from_hf({**config, "num_nextn_predict_layers": 1}, {**state, **further})
        assert differ(model(x), peer(x).logits) < 1e-5
    with pytest.raises(UserError, match="model.layers.2.eh_proj.weight belongs to nothing"):
        from_hf({**config, "num_nextn_predict_layers": 0}, {**state, **further})
    past = {"model.layers.3.eh_proj.weight": torch.zeros(32, 64)}
    with pytest.raises(UserError, match="model.layers.3.eh_proj.weight belongs to nothing"):
        from_hf({**config, "num_nextn_predict_layers": 1}, {**state, **past})


@pytest.mark.parametrize("kind", families.names())
def test_a_model_saved_without_its_head_is_read_where_the_head_is_tied(kind: str, tmp_path: Path) -> None:
    peer, x = theirs(kind, {**first(kind), "tie_word_embeddings": True}), tokens()
    peer.base_model.save_pretrained(tmp_path)
    if kind == "gptj":  # whose head has a bias that stands nowhere else
        with pytest.raises(UserError, match="lm_head.bias is missing"):
            load_hf(tmp_path)
        return
    with torch.no_grad():
        assert differ(load_hf(tmp_path)(x), peer(x).logits) < 1e-5


def test_a_model_saved_without_its_head_wants_it_where_it_is_not_tied(tmp_path: Path) -> None:
    theirs("llama", LLAMA).base_model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="lm_head.weight is missing"):
        load_hf(tmp_path)


def test_a_model_that_no_family_holds_says_what_differs(tmp_path: Path) -> None:
    import gptkit

    words = [
        "tokenizer=byte",
        "model.n_layers=1",
        "model.d_model=16",
        "model.n_heads=2",
        "position=sinusoidal",
    ]
    model = gptkit.build(gptkit.compose(words))
    with pytest.raises(UserError, match="position") as told:
        to_hf(model)
    assert "No family of transformers holds this model" in str(told.value)
    with pytest.raises(UserError, match="gptj cannot hold this model"):
        to_hf(model, "gptj")
    (tmp_path / "there").mkdir()
    with pytest.raises(RunError, match="is there already"):
        save_hf(model, tmp_path / "there")


def test_export_from_the_command_line_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gptkit
    from gptkit.cli import main

    monkeypatch.chdir(tmp_path)
    theirs("gpt_neox", FAMILIES[0][1]).save_pretrained("neox")
    assert main(["import", "from=neox", "out=ours", "tokenizer=none"]) == 0
    assert main(["export", "run=ours", "to=hf", "out=back"]) == 0
    assert "as gpt_neox." in capsys.readouterr().out
    x = tokens()
    with torch.no_grad():
        assert torch.equal(gptkit.load_hf("back")(x), gptkit.load("ours")(x))
    assert main(["export", "run=ours", "to=hf", "out=back"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["export", "run=ours", "out=x", "familly=opt"]) == 2
    assert "Did you mean 'family'?" in capsys.readouterr().err
    assert main(["export", "run=ours", "to=ggml", "out=x"]) == 2
    assert main(["export", "run=ours"]) == 2
