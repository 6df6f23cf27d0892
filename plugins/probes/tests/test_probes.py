"""Answers are right, prompts that are asked about were not trained on, and a run tells accuracy by length."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gptkit
from gptkit import registry
from gptkit.errors import ConfigError, DataError

PROBES = ["copy", "reverse", "induction", "count", "addition"]


def probe(name: str, **options):
    return registry.load("data", name)(**options)


def answer(name: str, prompt: str) -> str:
    """The right answer, worked out from the prompt alone."""
    if name == "copy":
        return prompt.removesuffix(">")
    if name == "reverse":
        return "".join(reversed(prompt.removesuffix("<")))
    if name == "induction":
        place = prompt.index(prompt[-1])
        assert place == 0
        return prompt[1:-1]
    if name == "count":
        text, asked = prompt.removesuffix("=").split("?")
        return str(sum(one == asked for one in text))
    a, b = prompt.removesuffix("=").split("+")
    return str(int(a) + int(b))


def length(name: str, prompt: str) -> int:
    marks = {"copy": 1, "reverse": 1, "induction": 1, "count": 3}
    return len(prompt.split("+")[0]) if name == "addition" else len(prompt) - marks[name]


@pytest.mark.parametrize("name", PROBES)
@given(size=st.integers(2, 40), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_answers_are_right_at_every_length(name, size, seed) -> None:
    prompt, said = probe(name).draw(size, random.Random(seed))
    assert said == answer(name, prompt)
    assert length(name, prompt) == size


def test_a_sum_may_begin_with_its_last_digit() -> None:
    plain, turned = probe("addition"), probe("addition", reverse_answer=True)
    for seed in range(20):
        one, other = (kind.draw(4, random.Random(seed)) for kind in (plain, turned))
        assert one.prompt == other.prompt
        assert one.answer == other.answer[::-1]


@pytest.mark.parametrize("name", PROBES)
def test_what_is_asked_was_not_trained_on(name) -> None:
    splits = probe(name, examples=3000, test_lengths=[2, 5, 9], max_length=5).splits(0.2)
    assert list(splits) == ["train", "val", "length_2", "length_5", "length_9"]
    trained = {example.prompt for example in splits["train"].examples}
    lengths = {length(name, prompt) for prompt in trained}
    assert lengths == set(range(1 if name == "addition" else 2, 6))
    for split, asked in splits.items():
        examples = list(asked.examples)
        assert len(examples) == (3000 if split == "train" else 200)
        if split == "train":
            continue
        assert not trained & {example.prompt for example in examples}
        if asked.length:
            assert {length(name, prompt) for prompt, _ in examples} == {asked.length}
            assert asked.trained == (asked.length <= 5)


@pytest.mark.parametrize("name", PROBES)
def test_examples_follow_from_the_options_alone(name) -> None:
    def told(**options):
        return [list(asked.examples) for asked in probe(name, examples=50, **options).splits(0.1).values()]

    assert told() == told()
    assert told(seed=1) != told()
    assert probe(name).fingerprint() == probe(name).fingerprint()
    assert probe(name, seed=1).fingerprint() != probe(name).fingerprint()
    assert probe(name, max_length=6).fingerprint() != probe(name).fingerprint()


def test_fingerprints_tell_probes_apart() -> None:
    assert len({probe(name).fingerprint() for name in PROBES}) == len(PROBES)


def test_the_same_examples_in_every_version() -> None:
    first = {name: next(iter(probe(name).splits(0.1)["train"].examples)).prompt for name in PROBES}
    assert first == {
        "copy": "koz>",
        "reverse": "ktfhcmgudefys<",
        "induction": "rCF3EQD2yZOGgpr",
        "count": "bbbaa?a=",
        "addition": "75+14=",
    }


def test_with_nothing_held_out_only_other_lengths_are_asked_about() -> None:
    splits = probe("copy", examples=20).splits(0.0)
    assert not list(splits["val"].examples)
    assert [name for name in splits if name.startswith("length")] == ["length_20", "length_24", "length_30"]


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("copy", {"min_length": 0}, "min_length"),
        ("copy", {"min_length": 5, "max_length": 4}, "at least min_length=5"),
        ("copy", {"symbols": 63}, "2 to 62"),
        ("copy", {"examples": 0}, "examples"),
        ("count", {"test_lengths": [0]}, "test_lengths"),
        ("induction", {"symbols": 20}, "at least 30, the longest length"),
        ("induction", {"min_length": 1}, "so that something follows"),
    ],
)
def test_options_that_make_no_sense_are_explained(name, options, told) -> None:
    with pytest.raises(ConfigError, match=told):
        probe(name, **options)


def test_a_length_with_no_prompt_to_hold_out_is_explained() -> None:
    with pytest.raises(DataError, match="of prompts of length 1 none is held out"):
        probe("copy", min_length=1, max_length=1, symbols=2, examples=5).splits(0.01)


@pytest.mark.parametrize("position", ["rotary", "learned"])
def test_a_run_tells_accuracy_by_length_or_why_not(tmp_path: Path, monkeypatch, position) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPTKIT_CACHE", str(tmp_path / "cache"))
    words = (
        f"data=copy position={position} data.max_length=3 data.test_lengths=[2,3,6] data.examples=200 "
        "data.symbols=4 data.test_examples=10 data.val_fraction=0.3 model.n_layers=1 model.d_model=16 "
        "model.n_heads=2 model.context_length=9 trainer.max_steps=4 trainer.sample_tokens=0 logger=none"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "gptkit", "train", *words.split()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").glob("*-nano-*")
    result = json.loads((folder / "result.json").read_text("utf-8"))
    splits = result["splits"]
    assert list(splits) == ["val", "length_2", "length_3", "length_6"]
    for name in ("val", "length_2", "length_3"):
        assert 0 <= splits[name]["accuracy"] <= splits[name]["token_accuracy"] <= 1
        assert splits[name]["trained"]
        assert splits[name]["examples"] == 10
    assert result["val_accuracy"] == splits["val"]["accuracy"]
    assert not splits["length_6"]["trained"]
    if position == "learned":
        assert "end at 8" in splits["length_6"]["refused"]
        assert "length_6 is not validated on" in done.stderr
    else:
        assert splits["length_6"]["loss"] > 0
    row = json.loads((folder / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
    assert row["length_3_accuracy"] == splits["length_3"]["accuracy"]
    assert row["tokens"] == 4 * 12 * 7
    assert gptkit.load(folder).shape.context_length == 9
