"""Whatever is typed or written, the answer is a config or a message: never another exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gptkit
from gptkit import schema
from gptkit.errors import ConfigError

WORDS = """position=rotary model.n_heads=8 +mask=sliding_window model.mask.sliding_window.window=4 ~logger
logger=[csv,tensorboard] optimizer.betas[1]=0.5 trainer.precision=bf16 data=text data.path=[a.txt,"b c.txt"] name=x
model.layers={3::4:\u00a0{position:\u00a0none}} model.layers.0.norm=none model.d_ff=${model.d_model} model=gpt2
schedule={name:\u00a0wsd,decay_fraction:\u00a00.5} seed=1 experiment=nanogpt_cpu debug=smoke config=here.yaml"""
VALID = [word.replace("\u00a0", " ") for word in WORDS.split()]
FILE = """\
# @package _global_
defaults:
  - override /model: gpt2
  - override /model/position: rotary
  - override /logger: [csv]
  - optional override /data: text

seed: 3
model:
  n_layers: 2
  position: {name: rotary, base: 50}
  mask: [causal, {name: sliding_window, window: 4}]
  layers: {"0": {norm: none}}
trainer: {max_steps: 5, precision: "32"}
optimizer:
  lr: ${model.dropout}
"""
JUNK = st.sampled_from(
    [*"=.[]{}:,'\"$~+-/@\\ \n\t#&*!|>%?()0aé\u2028_", "null", "${", "}", "name", "- ", "\x00"]
)
RARE = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.yaml").write_text("model: {n_layers: 2}\n")
    return tmp_path


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """A text with a few pieces taken out, doubled or put in."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(0, len(text) - 1)))
        end = min(len(text), start + draw(st.integers(0, 4)))
        kind = draw(st.sampled_from(["out", "double", "in", "end"]))
        if kind == "out":
            text = text[:start] + text[end:]
        elif kind == "double":
            text = text[:end] + text[start:]
        elif kind == "in":
            text = text[:start] + draw(JUNK) + text[start:]
        else:
            text = text[:start]
    return text


def is_answered(*words: str, **options: Any) -> None:
    told = None
    try:
        config = gptkit.compose(words, **options)
    except ConfigError as error:
        told = error
    if told is not None:
        assert told.problems
        assert str(told).strip()
        assert "To append to your config" not in str(told)
    else:
        assert not schema.validate(config)
        assert json.loads(json.dumps(config)) == config


@RARE
@given(st.lists(st.sampled_from(VALID).flatmap(mutated), min_size=1, max_size=3))
def test_mutated_words(words: list[str]) -> None:
    is_answered(*words)


@RARE
@given(
    st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=2)
)
def test_any_words(words: list[str]) -> None:
    is_answered(*words)


@RARE
@given(mutated(FILE))
def test_mutated_files(text: str) -> None:
    Path("mine.yaml").write_text(text, "utf-8")
    is_answered("config=mine.yaml")


@RARE
@given(mutated(FILE))
def test_mutated_presets(text: str) -> None:
    Path("conf/model").mkdir(parents=True, exist_ok=True)
    Path("conf/model/mine.yaml").write_text(text, "utf-8")
    is_answered("model=mine", "position=none")


NAMES = st.sampled_from(["name", "base", "causal", "0", "3::4", "position", "", "_x_", "é"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 2000) | st.floats(allow_nan=False)
PLAIN = st.recursive(
    SCALARS | st.sampled_from(["none", "rotary", "x", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
KEYS = [
    "seed",
    "name",
    "devices",
    "model",
    "data",
    "trainer",
    "logger",
    "callback",
    "tokenizer",
    "optimizer",
    "defaults",
]
MODEL_KEYS = ["position", "mask", "layers", "n_heads", "d_model", "norm", "dropout", "init", "head", "preset"]


@RARE
@given(
    st.dictionaries(st.sampled_from(KEYS), PLAIN, max_size=4),
    st.dictionaries(st.sampled_from(MODEL_KEYS), PLAIN, max_size=4),
)
def test_files_of_the_wrong_shape(top: dict[str, Any], model: dict[str, Any]) -> None:
    Path("mine.json").write_text(json.dumps({"model": model, **top}), "utf-8")
    is_answered("config=mine.json")


@pytest.mark.slow
@settings(RARE, max_examples=2000)
@given(st.lists(st.sampled_from(VALID).flatmap(mutated), min_size=1, max_size=4), mutated(FILE))
def test_many_mutations(words: list[str], text: str) -> None:
    Path("here.yaml").write_text(text, "utf-8")
    is_answered(*words, "config=here.yaml")
