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
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_parameters_as_published(preset: str) -> None:
    words, count = PUBLISHED[preset]
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
    parts = [slot.rsplit(".")[-1] for slot in registry.SLOTS if slot.startswith("model.")]
    for part in parts:
        if isinstance(said.get(part), dict) and said[part]:
            assert registry.find(f"model.{part}", said[part].get("name", "")), part
