"""What the fields of a family's config.json mean: known ones, older ones, neutral ones, and those that are not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gptkit.errors import UserError
from gptkit.interop import families
from gptkit.interop.fields import NEUTRAL
from gptkit.interop.hugging_face import from_hf, save_hf, section_of, to_hf
from peers import (
    FAMILIES,
    GEMMA,
    LLAMA,
    LONGROPE,
    ROTARY,
    differ,
    first,
    longrope,
    ours,
    read_alike,
    theirs,
    tokens,
    written,
)

transformers = pytest.importorskip("transformers")


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


@pytest.mark.parametrize(
    "field", ["query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"]
)
def test_nothing_is_divided_by_nought(field: str) -> None:
    config = written("gemma2", first("gemma2"))
    for nought in (0, 0.0):
        with pytest.raises(UserError, match=f"{field}={nought}: only a number above 0 can be held"):
            section_of({**config, field: nought})
    if field.endswith("softcapping"):
        assert "cap" not in section_of({**config, field: None})["head" if "final" in field else "attention"]


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
@pytest.mark.parametrize("value", [None, "much", 0, -1], ids=str)
def test_a_value_that_is_none_is_refused_by_the_field_s_name(kind: str, value: str | int | None) -> None:
    config = written(kind, first(kind))
    for name in config.keys() - NEUTRAL:
        if type(config[name]) in {int, float}:
            try:
                section_of({**config, name: value})
            except UserError as error:
                assert name in str(error)
