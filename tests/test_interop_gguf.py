"""GGUF files: what they hold, what they compute by llama.cpp's conventions, what is refused."""

from __future__ import annotations

import itertools
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gptkit
from gguf_reference import File, gguf
from gptkit.errors import RunError, UserError
from gptkit.interop import families
from gptkit.interop.gguf import ABSENT, ARCHITECTURES, save_gguf, weights
from gptkit.interop.hugging_face import to_hf
from peers import (
    BLOOM,
    DEEPSEEK,
    FAMILIES,
    GEMMA,
    GPT_OSS,
    LLAMA,
    LLAMA3,
    LONG,
    MPT,
    QWEN3_MOE,
    YARN,
    differ,
    ours,
    theirs,
    tokens,
)

LINEAR = {"rope_type": "linear", "rope_theta": 50.0, "factor": 3.0}
GPT2 = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
CAPS = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0}
GEMMA_2 = {
    **GEMMA,
    **CAPS,
    "query_pre_attn_scalar": 8,
    "layer_types": ["sliding_attention", "full_attention"],
}
GEMMA_3 = {**GEMMA, "query_pre_attn_scalar": 8, "num_hidden_layers": 7}
LOCAL = {"sliding_attention": {"rope_type": "default", "rope_theta": 30.0}, "full_attention": LINEAR}
PHI = {**LLAMA, "pad_token_id": None}
SMOLLM = {**LLAMA, "num_hidden_layers": 4, "pad_token_id": None}
OSS = {**GPT_OSS, "rope_parameters": YARN}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", LLAMA),
    ("llama", {**LLAMA, "num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("llama", {**LLAMA, "head_dim": 12, "rms_norm_eps": 1e-3, "rope_parameters": LLAMA3}),
    ("llama", {**LLAMA, "num_key_value_heads": 1, "rope_parameters": YARN}),
    ("mistral", {**LLAMA, "sliding_window": None, "head_dim": 16, "rope_parameters": LINEAR}),
    ("mistral", {**LLAMA, "sliding_window": 64}),
    ("qwen2", LLAMA),
    ("qwen2", {**LLAMA, "tie_word_embeddings": True, "rope_parameters": YARN}),
    ("qwen3", LLAMA),
    ("qwen3", {**LLAMA, "head_dim": 12, "tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
    ("gpt2", GPT2),
    ("gpt2", {**GPT2, "n_inner": 40, "tie_word_embeddings": False, "layer_norm_epsilon": 1e-3}),
    ("gpt_neox", {**LONG, "intermediate_size": 48, "hidden_act": "gelu_new"}),
    ("gpt_neox", {**LONG, "intermediate_size": 24, "hidden_act": "gelu_new", "num_attention_heads": 2,
                  "use_parallel_residual": False, "tie_word_embeddings": True}),
    ("gemma2", GEMMA_2),
    ("gemma2", {**GEMMA_2, "head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 64}),
    ("gemma3_text", GEMMA_3),
    ("gemma3_text", {**GEMMA_3, "final_logit_softcapping": 4.0, "rope_parameters": LOCAL}),
    ("gemma3_text", {**GEMMA_3, "num_hidden_layers": 2, "layer_types": ["full_attention"] * 2, "tie_word_embeddings": False}),
    ("phi3", PHI),
    ("phi3", {**PHI, "hidden_size": 64, "rope_parameters": {"rope_type": "default", "rope_theta": 99.0, "partial_rotary_factor": 0.5}}),
    ("falcon", {**LONG, "activation": "gelu_new"}),
    ("falcon", {**LONG, "activation": "gelu_new", "new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 40}),
    ("falcon", {**LONG, "activation": "gelu_new", "multi_query": False, "tie_word_embeddings": False}),
    ("stablelm", LLAMA),
    ("stablelm", {**LLAMA, "use_qkv_bias": True, "use_parallel_residual": True, "tie_word_embeddings": True}),
    ("olmo2", LLAMA),
    ("olmo2", {**LLAMA, "num_key_value_heads": 4, "rms_norm_eps": 1e-3}),
    ("smollm3", SMOLLM),
    ("smollm3", {**SMOLLM, "num_hidden_layers": 2, "tie_word_embeddings": False, "rope_parameters": YARN}),
    ("bloom", BLOOM),
    ("bloom", {**BLOOM, "n_head": 3, "hidden_size": 24, "layer_norm_epsilon": 1e-3, "tie_word_embeddings": False}),
    ("mpt", MPT),
    ("mpt", {**MPT, "n_heads": 2, "layer_norm_epsilon": 1e-3, "tie_word_embeddings": False}),
    ("mixtral", {**LLAMA, "num_local_experts": 4}),
    ("mixtral", {**LLAMA, "num_local_experts": 3, "num_experts_per_tok": 1, "head_dim": 12, "tie_word_embeddings": True,
                 "rope_parameters": LLAMA3}),
    ("qwen3_moe", {**QWEN3_MOE, "norm_topk_prob": True}),
    ("qwen3_moe", {**QWEN3_MOE, "norm_topk_prob": True, "num_experts_per_tok": 3, "head_dim": 12, "tie_word_embeddings": True,
                   "rope_parameters": YARN}),
    ("gpt_oss", OSS),
    ("gpt_oss", {**OSS, "num_hidden_layers": 3, "head_dim": 12, "tie_word_embeddings": True, "num_experts_per_tok": 3,
                 "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    ("gpt_oss", {**OSS, "layer_types": ["full_attention"] * 2}),
    ("deepseek_v3", DEEPSEEK),
    ("deepseek_v3", {**DEEPSEEK, "q_lora_rank": None, "first_k_dense_replace": 0, "n_group": 1, "topk_group": 1,
                     "norm_topk_prob": False, "rope_interleave": False, "tie_word_embeddings": True}),
    ("deepseek_v3", {**DEEPSEEK, "n_shared_experts": 2, "first_k_dense_replace": 2, "num_hidden_layers": 3,
                     "routed_scaling_factor": 1.3, "rope_interleave": False,
                     "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.7}}),
]  # fmt: skip
IDS = [f"{kind}{number}" for number, (kind, _) in enumerate(MODELS)]


def far(path: Path, model: Any) -> float:
    """How far the file's logits are from the model's."""
    x = tokens(1)
    with torch.no_grad():
        return differ(torch.from_numpy(File(path).logits(x[0].numpy())), model.double()(x)[0])


@pytest.mark.parametrize(("kind", "options"), MODELS, ids=IDS)
def test_the_file_alone_gives_the_logits(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = ours(theirs(kind, options))
    path = save_gguf(model, tmp_path / "a.gguf", kind)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.gguf"]
    every_weight_once(kind, model, File(path))
    if kind == "mpt":  # whose GELU is exact; a warning says that llama.cpp's is not
        for block in model.blocks:
            block.feed_forward.activation = torch.nn.GELU("tanh")
    assert far(path, model) < 1e-5


def every_weight_once(kind: str, model: Any, file: File) -> None:
    """Each weight is in the file once, where the architecture has a place for it."""
    arch = getattr(gguf.MODEL_ARCH, ARCHITECTURES[kind].member)
    assert file.arch == gguf.MODEL_ARCH_NAMES[arch] == ARCHITECTURES[kind].name
    known = [gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[arch]]
    layers = range(file.keys["block_count"])
    places = {name.format(bid=layer) for name, layer in itertools.product(known, layers)}
    assert {name.rsplit(".", 1)[0] for name in file.tensors} <= places
    _, state = to_hf(model, kind)
    tables = {"rope_freqs.weight", "output.weight"}
    written = sum(tensor.size for name, tensor in file.tensors.items() if name not in tables)
    assert written == sum(tensor.numel() for name, tensor in state.items() if name != "lm_head.weight")


def test_every_key(tmp_path: Path) -> None:
    options = {**LLAMA, "head_dim": 12, "rms_norm_eps": 1e-3, "rope_parameters": YARN}
    file = File(save_gguf(ours(theirs("llama", options)), tmp_path / "mine.gguf", "llama"))
    told = {name: value for name, value in file.keys.items() if not name.startswith("GGUF.")}
    assert told == {
        "general.architecture": "llama", "general.type": "model", "general.name": "mine", "general.file_type": 0,
        "general.quantization_version": gguf.GGML_QUANT_VERSION, "context_length": 64, "embedding_length": 32,
        "block_count": 2, "feed_forward_length": 40, "attention.head_count": 4, "attention.head_count_kv": 2,
        "attention.key_length": 12, "attention.value_length": 12, "vocab_size": 50,
        "attention.layer_norm_rms_epsilon": pytest.approx(1e-3), "rope.freq_base": 100.0,
        "rope.dimension_count": 12, "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 16, "tokenizer.ggml.model": "none",
    }  # fmt: skip


WHOLE = ("position_embd.weight", "ffn_gate_inp.weight", ".bias")


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize(("kind", "options"), [("gpt2", GPT2), ("gpt_oss", OSS)])
def test_matrices_in_sixteen_bits(kind: str, options: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    model = ours(theirs(kind, options))
    whole = File(save_gguf(model, tmp_path / "a.gguf"))
    half = File(save_gguf(model, tmp_path / "b.gguf", dtype=dtype))
    for name, expected in whole.tensors.items():
        kept = expected.ndim < 2 or name.endswith(WHOLE)
        assert half.types[name] == ("F32" if kept else dtype.upper())
        cast = torch.from_numpy(expected).float().to({"f16": torch.float16, "bf16": torch.bfloat16}[dtype])
        assert np.array_equal(half.tensors[name], expected if kept else cast.double().numpy())
    with torch.no_grad():
        model.blocks[0].attention.out.weight[0, 0] = 1e5
    with pytest.raises(UserError, match="attn_output.weight has numbers beyond 65,504"):
        save_gguf(model, tmp_path / "c.gguf", dtype="f16")


def test_rows_left_in_their_order_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ours(theirs("llama", LLAMA))
    monkeypatch.setattr(weights, "paired", lambda tensor, heads: tensor)
    assert far(save_gguf(model, tmp_path / "a.gguf", "llama"), model) > 1e-2


REFUSED = [
    ("mistral", {"sliding_window": 5}, "sliding_window=5: llama.cpp's llama has no windows"),
    ("llama", {"hidden_act": "relu"}, "hidden_act='relu': llama.cpp's llama computes silu"),
    ("llama", {"rope_parameters": {**LINEAR, "rope_type": "dynamic"}}, "rope_type='dynamic'"),
    ("llama", {"rope_parameters": {**YARN, "beta_fast": 16.0}}, "beta_fast=16.0: llama.cpp reads none"),
    ("llama", {"rope_parameters": {**YARN, "attention_factor": 2.0}}, "attention_factor=2.0"),
    ("llama", {"rope_parameters": {**YARN, "truncate": False}}, "truncate=False"),
    ("qwen2", {"rope_parameters": LLAMA3}, "rope_type='llama3'"),
    ("qwen3", {"attention_bias": True}, "attention_bias=True: only False"),
    ("olmo2", {"attention_bias": True}, "attention_bias=True: only False"),
    ("gpt_neox", {"attention_bias": False}, "attention_bias=False: only True"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
    ("falcon", {"parallel_attn": False, "multi_query": False}, "parallel_attn=False: only True"),
    ("falcon", {"bias": True}, "bias=True: only False"),
    ("gemma2", {"query_pre_attn_scalar": 16}, "query_pre_attn_scalar=16: llama.cpp computes 8"),
    ("gemma2", {"final_logit_softcapping": None}, "always caps"),
    ("gemma2", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding_window=5"),
    ("gemma3_text", {"layer_types": ["full_attention"] + ["sliding_attention"] * 6}, "sliding_window=5"),
    ("phi3", {"sliding_window": 6}, "sliding_window=6"),
    ("smollm3", {"no_rope_layers": [1, 0, 1, 1]}, r"no_rope_layers=\[1, 0, 1, 1\]: .* in every fourth layer"),
    ("smollm3", {"attention_bias": True}, "attention_bias=True: only False"),
    ("smollm3", {"mlp_bias": True}, "mlp_bias=True: only False"),
    ("smollm3", {"rope_parameters": LLAMA3}, "rope_type='llama3'"),
    ("mpt", {"attn_config": {"softmax_scale": 0.3}}, "attn_config=.*computes a softmax_scale of 0.35"),
    ("mixtral", {"sliding_window": 5}, "sliding_window=5: llama.cpp's llama has no windows"),
    ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob=False: only True"),
    ("qwen3_moe", {"mlp_only_layers": [1]}, r"mlp_only_layers=\[1\]: only \[\]"),
    ("qwen3_moe", {"attention_bias": True}, "attention_bias=True"),
    ("gpt_oss", {"attention_bias": False}, "attention_bias=False: only True"),
    ("gpt_oss", {"rope_parameters": {**YARN, "truncate": False}}, "truncate=False"),
    ("gpt_oss", {"layer_types": ["full_attention", "sliding_attention"]}, "slides in the first of each two layers"),
    ("deepseek_v3", {"attention_bias": True}, "attention_bias=True: only False"),
    ("deepseek_v3", {"rms_norm_eps": 1e-3}, "rms_norm_eps=0.001: llama.cpp has one for all norms"),
    ("deepseek_v3", {"num_hidden_layers": 26}, "q_lora_rank=12: llama.cpp takes a model of this size"),
    ("deepseek_v3", {"rope_parameters": YARN}, "no mscale_all_dim"),
    ("deepseek_v3", {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2}}, "attention_factor=0.9"),
    ("deepseek_v3", {"rope_parameters": LINEAR}, "rope_type='linear'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "change", "words"), REFUSED, ids=[f"{k}-{next(iter(c))}" for k, c, _ in REFUSED]
)
def test_what_llama_cpp_does_not_compute_is_refused(
    kind: str, change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    options = next(options for name, options in MODELS if name == kind)
    model = ours(theirs(kind, {**options, **change}))
    with pytest.raises(UserError, match=f"cannot hold this {kind}: .*{words}"):
        save_gguf(model, tmp_path / "a.gguf", kind)
    assert not list(tmp_path.iterdir())


def test_a_family_is_found_or_its_lack_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("llama", "qwen3", "falcon", "gemma2", "bloom", "mixtral", "deepseek_v3"):
        options = next(options for name, options in MODELS if name == kind)
        assert (
            File(save_gguf(ours(theirs(kind, options)), tmp_path / f"{kind}.gguf")).arch
            == ARCHITECTURES[kind].name
        )
    for kind, why in (
        ("gptj", "knows the name gptj, but computes no such model"),
        ("openai-gpt", "no such architecture"),
    ):
        model = ours(theirs(kind, next(options for name, options in FAMILIES if name == kind)))
        with pytest.raises(UserError, match=f"This model is a {kind}, which is not written as GGUF: .*{why}"):
            save_gguf(model, tmp_path / "a.gguf")
        with pytest.raises(UserError, match=f"family='{kind}' is not written as GGUF. .*{why}"):
            save_gguf(model, tmp_path / "a.gguf", kind)
    assert {*ARCHITECTURES, *ABSENT} == set(families.names())
    with pytest.raises(UserError, match=r"family='qwen' is not written as GGUF. Did you mean 'qwen[23]'\?"):
        save_gguf(model, tmp_path / "a.gguf", "qwen")
    with pytest.raises(UserError, match="dtype='q4': expected one of f32, f16, bf16"):
        save_gguf(model, tmp_path / "a.gguf", dtype="q4")
    monkeypatch.setattr(gguf, "MODEL_ARCH", object())
    with pytest.raises(UserError, match="knows no gpt2. pip install -U gguf"):
        save_gguf(small("byte"), tmp_path / "a.gguf", "gpt2")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'gptkit\[gguf\]'"):
        save_gguf(model, tmp_path / "a.gguf")


def test_exact_gelu_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = ours(theirs("gpt_neox", {**LONG, "intermediate_size": 48}))
    with caplog.at_level(logging.WARNING, "gptkit"):
        save_gguf(model, tmp_path / "a.gguf")
    assert caplog.text.count("tanh form") == 1


def small(tokenizer: str, *more: str) -> Any:
    words = ["model.n_layers=1", "model.d_model=16", "model.n_heads=2", f"tokenizer={tokenizer}", *more]
    return gptkit.build(gptkit.compose(words))


def test_gains_are_shifted_before_they_are_rounded(tmp_path: Path) -> None:
    model = ours(theirs("gemma2", GEMMA_2)).bfloat16()
    gain = File(save_gguf(model, tmp_path / "a.gguf")).tensors["output_norm.weight"]
    assert np.array_equal(gain, 1.0 + model.norm.weight.detach().double().numpy())


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(RunError, match="was not written: the disk is full"):
        save_gguf(small("byte"), tmp_path / "a.gguf")
    assert not list(tmp_path.iterdir())


def test_export_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gptkit.cli import main

    monkeypatch.chdir(tmp_path)
    gptkit.save(small("gpt2"), "mine")
    assert main(["export", "run=mine", "to=gguf", "out=a/b.gguf", "dtype=bf16"]) == 0
    assert "b.gguf" in capsys.readouterr().out
    assert File(tmp_path / "a" / "b.gguf").keys["general.file_type"] == 32
    assert main(["export", "run=mine", "to=gguf", "out=a/b.gguf"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["export", "run=mine", "to=hf", "out=c", "dtype=f16"]) == 2
    assert "only to=gguf takes a dtype" in capsys.readouterr().err
    with pytest.raises(RunError, match="was not written"):
        save_gguf(
            small("gpt2"), "mine/config.yaml/x.gguf" if Path("mine/config.yaml").exists() else "/proc/x.gguf"
        )
