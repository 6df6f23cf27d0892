"""Presets have the sizes that were published, and every part of theirs can be swapped."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import gptkit
from gptkit import registry
from gptkit.composing.tree import conf_dir

PUBLISHED = {
    "gpt1": (["model.vocab_size=40478", "tokenizer=byte"], 116_534_784),
    "gpt2": (["tokenizer=gpt2"], 124_439_808),
    "gpt2_medium": (["tokenizer=gpt2"], 354_823_168),
    "gpt2_large": (["tokenizer=gpt2"], 774_030_080),
    "gpt2_xl": (["tokenizer=gpt2"], 1_557_611_200),
    "gpt3_small": (["tokenizer=gpt2"], 125_226_240),
    "llama2_7b": ([], 6_738_415_616),
    "llama3_8b": ([], 8_030_261_248),
    "mistral_7b": ([], 7_241_732_096),
    "qwen2_0_5b": ([], 494_032_768),
    "qwen3_0_6b": ([], 596_049_920),
    "olmo2_7b": ([], 7_298_617_344),
    "phi3_mini": ([], 3_821_079_552),
    "smollm3_3b": ([], 3_075_098_624),
    "stablelm2_1_6b": ([], 1_644_515_328),
    "pythia_160m": ([], 162_322_944),
    "gpt_neox_20b": ([], 20_554_567_680),
    "gptj_6b": ([], 6_050_882_784),
    "opt_125m": ([], 125_237_760),  # two rows of positions less, which nothing reads
    "falcon_7b": ([], 6_921_720_704),
    "bloom_560m": ([], 559_214_592),
    "mpt_7b": ([], 6_649_286_656),
    "mixtral_8x7b": ([], 46_702_792_704),
    "qwen3_30b_a3b": ([], 30_532_122_624),
    "deepseek_v3": ([], 671_026_419_200 - 58 * 256),  # without the experts' biases, which no gradient learns
    "gpt_oss_20b": ([], 20_914_757_184),
    "gemma2_2b": ([], 2_614_341_888),
    "gemma3_1b": ([], 999_885_952),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_parameters_as_published(preset: str) -> None:
    words, count = PUBLISHED[preset]
    words = words or ["tokenizer=byte"]
    model = gptkit.build(gptkit.compose([f"model={preset}", *words]), device="meta")
    assert model.n_parameters() == count


def test_gpt1_ends_without_a_norm_of_its_own() -> None:
    config = gptkit.compose(["model=gpt1", "tokenizer=byte"])["model"]
    assert (config["block"]["name"], config["context_length"]) == ("post", 512)
    assert config["init"]["scale_residual"] is False
    assert config["feed_forward"]["activation"] == "gelu_tanh"
    assert gptkit.compose(["model=gpt1", "init=gpt2"])["model"]["init"]["scale_residual"] is False


def test_nano_is_nanogpts_setting_for_a_cpu() -> None:
    config = gptkit.compose()
    model = config["model"]
    sizes = {"n_layers": 4, "n_heads": 4, "d_model": 128, "context_length": 64, "dropout": 0.0}
    assert {key: model[key] for key in sizes} == sizes
    assert config["data"]["batch_size"] == 12
    assert config["optimizer"]["lr"] == 1e-3
    assert config["schedule"]["final_fraction"] == 0.1


@pytest.mark.parametrize("preset", ["bigram", "attention_only", "gpt1", "gpt3_small", "nano"])
def test_a_preset_builds_with_other_parts(preset: str) -> None:
    small = ["model.d_model=16", "model.n_heads=2", "model.context_length=8", "tokenizer=byte"]
    for swap in [
        "position=rotary",
        "norm=none",
        "block=parallel",
        "attention=summed_heads",
        "feed_forward=none",
    ]:
        layers = [] if preset == "bigram" else ["model.n_layers=2"]
        model = gptkit.build(gptkit.compose([f"model={preset}", *small, *layers, swap]), device="meta")
        assert len(model.blocks) == (0 if preset == "bigram" else 2)


@pytest.mark.parametrize("preset", sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml")))
def test_what_a_preset_says_of_a_part_names_the_part(preset: str) -> None:
    """Options without the part's name would stay when another part is chosen, which has none of them."""
    said = yaml.safe_load((conf_dir() / "model" / f"{preset}.yaml").read_text("utf-8")) or {}
    slots = [slot for slot in registry.SLOTS.values() if slot.name.startswith("model.") and not slot.many]
    parts = [slot.name.rsplit(".")[-1] for slot in slots]
    for part in parts:
        if isinstance(said.get(part), dict) and said[part]:
            assert registry.find(f"model.{part}", said[part].get("name", "")), part


FAMILIES = {
    "llama2_7b": "llama",
    "llama3_8b": "llama",
    "mistral_7b": "mistral",
    "qwen2_0_5b": "qwen2",
    "qwen3_0_6b": "qwen3",
    "olmo2_7b": "olmo2",
    "phi3_mini": "phi3",
    "smollm3_3b": "smollm3",
    "stablelm2_1_6b": "stablelm",
    "pythia_160m": "gpt_neox",
    "gpt_neox_20b": "gpt_neox",
    "gptj_6b": "gptj",
    "opt_125m": "opt",
    "falcon_7b": "falcon",
    "gpt1": "openai-gpt",
    "bloom_560m": "bloom",
    "mpt_7b": "mpt",
    "mixtral_8x7b": "mixtral",
    "qwen3_30b_a3b": "qwen3_moe",
    "deepseek_v3": "deepseek_v3",
    "gpt_oss_20b": "gpt_oss",
    "gemma2_2b": "gemma2",
    "gemma3_1b": "gemma3_text",
}


@pytest.mark.parametrize("preset", FAMILIES)
def test_a_familys_preset_is_a_model_of_that_family(preset: str) -> None:
    from gptkit.interop.hugging_face import section_of, to_hf

    model = gptkit.build(gptkit.compose([f"model={preset}", "tokenizer=byte"]), device="meta")
    config, state = to_hf(model, FAMILIES[preset])
    assert sum(tensor.numel() for tensor in state.values()) >= model.n_parameters()
    assert section_of(config)["n_layers"] == len(model.blocks)


def test_every_preset_is_known_by_its_size_or_is_no_published_model() -> None:
    presets = {path.stem for path in (conf_dir() / "model").glob("*.yaml") if not path.stem.startswith("_")}
    assert presets - set(PUBLISHED) == {"nano", "bigram", "attention_only"}
