"""What a mistake on the command line is answered with, word for word; all mistakes in one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gptkit
from gptkit.errors import ConfigError

GOLDEN: list[tuple[list[str], list[str]]] = [
    (["position=rotery"], ["model/position=rotery: no such option. Did you mean model/position=rotary?"]),
    (["model.n_head=8"], ["model.n_head: no such key. Did you mean model.n_heads?"]),
    (["positon=rotary"], ["positon: no such key. Did you mean model/position?"]),
    (["model/positon=rotary"], ["model/positon: no such group. Did you mean model/position?"]),
    (["n_heads=8"], ["n_heads: no such key. Did you mean model.n_heads?"]),
    (["heads=8"], ["heads: no such key. Did you mean model.n_heads?"]),
    (["lr=0.1"], ["lr: no such key. Did you mean optimizer.lr?"]),
    (["modle.n_heads=3"], ["modle.n_heads: no such key. Did you mean model.n_heads?"]),
    (["tokeniser=byte"], ["tokeniser: no such key. Did you mean tokenizer?"]),
    (["trainer=dpp"], ["trainer=dpp: no such option. Did you mean trainer=ddp?"]),
    (["model=gpt2_xxl"], ["model=gpt2_xxl: no such option. Did you mean model=gpt2_xl?"]),
    (
        ["model.n_layers=four"],
        [
            "model.n_layers: expected a whole number, got the text 'four'. number of blocks; 0 gives a bigram model."
        ],
    ),
    (
        ["trainer.precision=64"],
        [
            "trainer.precision: expected one of 32, bf16, got the number 64. "
            "`32`, or `bf16` autocast over weights in float32."
        ],
    ),
    (
        ["schedule.warmup=3"],
        [
            "schedule.warmup: 'cosine' takes no option 'warmup'. Did you mean 'warmup_steps'? "
            "It takes: warmup_steps, final_fraction."
        ],
    ),
    (
        ["model.position.base=3"],
        [
            "model.position.base: 'learned' takes no option 'base'. It is an option of 'sinusoidal', 'rotary', "
            "'rotary_dynamic', …: choose one of them, such as model/position=sinusoidal, or leave 'base' out. "
            "'learned' takes: max_positions."
        ],
    ),
    (
        [
            "mask=[causal,any]",
            "model.mask.any.of={sliding_window: {windw: 3}, not: {of: {prefix: {lenth: 3}}}}",
        ],
        [
            "model.mask.any.of.sliding_window.windw: 'sliding_window' takes no option 'windw'. Did you mean 'window'? "
            "It takes: window.",
            "model.mask.any.of.not.of.prefix.lenth: 'prefix' takes no option 'lenth'. Did you mean 'length'? "
            "It takes: length.",
        ],
    ),
    (
        ["mask=[causal,not]", "model.mask.not.of={sliding_window: {window: abc}}"],
        [
            "model.mask.not.of.sliding_window.window: expected a whole number, got the text 'abc'. how many tokens a "
            "token reads to one side, itself among them."
        ],
    ),
    (
        ["position=randomised", "model.position.of={name: sinusoidal, bse: 3}"],
        ["model.position.of.bse: 'sinusoidal' takes no option 'bse'. Did you mean 'base'? It takes: base."],
    ),
    (["optimizer=early_stop"], ["optimizer=early_stop: no such option. Did you mean callback=early_stop?"]),
    (["logger=wnadb"], ["logger=wnadb: no such option. Did you mean logger=wandb?"]),
    (["logger=wandb,csv"], ["logger=wandb,csv: several are named. Write a list: logger=[wandb,csv]."]),
    (
        ["position=rotary,alibi"],
        ["model/position=rotary,alibi: several are named. Choose one, such as model/position=rotary."],
    ),
    (["rotary"], ["'rotary': expected key=value. Did you mean model/position=rotary?"]),
    (["mine.yaml"], ["'mine.yaml': expected key=value. Did you mean config=mine.yaml?"]),
    (["--multirun"], ["--multirun: no such flag. Choices and values are written key=value."]),
    (["config=nope.yaml"], ["config=nope.yaml: there is no such file."]),
    (
        ["data=text", "data.path=a=b.txt"],
        ["data.path: 'a=b.txt' cannot be read. Put it in quotes: 'data.path=\"a=b.txt\"'."],
    ),
    (["seed.x=1"], ["seed.x: no such key: seed is a value and holds no keys."]),
    (["~model.n_layer"], ["model.n_layer: is not there, so it cannot be taken away."]),
    (
        ["optimizer.betas[7]=0.5"],
        ["optimizer.betas[7]: the list has 2 entries, counted from 0."],
    ),
    (
        ["model.d_ff=${model.d_modle}"],
        ["model.d_ff: '${model.d_modle}' refers to a key that is not there. Did you mean ${model.d_model}?"],
    ),
    (["model.d_ff=${model.d_ff}"], ["model.d_ff: '${model.d_ff}' refers to itself. Write the value."]),
    (
        ["name=${oc.env:GPTKIT_NO_SUCH}"],
        [
            "name: there is no environment variable GPTKIT_NO_SUCH. "
            "Set it, or give a default: ${oc.env:GPTKIT_NO_SUCH,value}."
        ],
    ),
    (
        ["name=${now:%Y}"],
        [
            "name: refers to more than a key, ${model.d_model}, or a variable, ${oc.env:HOME}. "
            "Write the value itself."
        ],
    ),
    (
        ["model.position._target_=os.system"],
        [
            "model.position._target_: a config names parts, it never names code. "
            "Choose a registered part with 'name'; write a plugin for a new one."
        ],
    ),
    (
        ["model.n_heads=x", "seed=${sed}", "model.bogs=3", "data.batch_size=0", "model._target_=os.system"],
        [
            "model._target_: a config names parts, it never names code. "
            "Choose a registered part with 'name'; write a plugin for a new one.",
            "seed: '${sed}' refers to a key that is not there. Did you mean ${seed}?",
            "model.n_heads: expected a whole number, got the text 'x'. attention heads in each layer.",
            "model.bogs: no such key. Did you mean model.bias?",
            "data.batch_size: expected at least 1, got 0.",
        ],
    ),
    (["data.val_fold=-1"], ["data.val_fold: expected at least 0, got -1."]),
    (
        ["model.layers={3::4:{position:"],
        [
            "model.layers: '{3::4:{position:' cannot be read. Close every brace and bracket, and put the "
            "whole word in single quotes, as in 'model.layers={3::4: {position: none}}'."
        ],
    ),
    (
        ['model.layers."3::4".norm=none'],
        [
            """'model.layers."3::4".norm=none': 'model.layers."3::4".norm' is no key. """
            "Leave the quotes out: model.layers.3::4.norm=none"
        ],
    ),
    (
        ["'seed=3'", '+"callback"=ema', '~"model.position"'],
        [
            """"'seed=3'": "'seed" is no key. Leave the quotes out: seed=3""",
            """'+"callback"=ema': '"callback"' is no key. Leave the quotes out: +callback=ema""",
            """'~"model.position"': '"model.position"' is no key. Leave the quotes out: ~model.position""",
        ],
    ),
    (
        ["model.n_heads=7"],
        ["model.n_heads: d_model=128 cannot be split into 7 heads. Take n_heads=8, or set model.d_head."],
    ),
    (
        ["position=rotery", "model.n_head=8", "+foo.bar=2", "trainer.max_step=1"],
        [
            "model/position=rotery: no such option. Did you mean model/position=rotary?",
            "model.n_head: no such key. Did you mean model.n_heads?",
            "trainer.max_step: no such key. Did you mean trainer.max_steps?",
            "foo.bar: no such key.",
        ],
    ),
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("words", "answer"), GOLDEN, ids=lambda value: " ".join(value)[:50])
def test_the_answer(words: list[str], answer: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        gptkit.compose(words)
    told = str(caught.value).splitlines()
    assert len(told) == len(answer), told
    for said, expected in zip(told, answer, strict=True):
        assert said == expected or (expected == "foo.bar: no such key." and said.startswith(expected))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("of", "told"),
    [
        ("{}", "model.mask.any.of: names no model.mask. Available: any, "),
        (
            "{prefx: {}}",
            "model.mask.any.of.prefx: there is no model.mask named 'prefx'. Did you mean 'prefix'? ",
        ),
    ],
)
def test_a_mask_within_a_mask_is_named(of: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gptkit.compose(["mask=[causal,any]", f"model.mask.any.of={of}"])
    assert str(caught.value).startswith(told)


def test_what_follows_from_a_mistake_is_not_told() -> None:
    with pytest.raises(ConfigError) as caught:
        gptkit.compose(["position=rotery", "model.position.base=3", "data=txt", "data.path=x"])
    assert str(caught.value).splitlines() == [
        "model/position=rotery: no such option. Did you mean model/position=rotary?",
        "data=txt: no such option. Did you mean data=text?",
    ]


def test_what_must_be_given_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"^data.path: 'text' needs it: .* Give it: data.path=…$"):
        gptkit.compose(["data=text"])
    with pytest.raises(
        ConfigError, match=r"^tokenizer: nothing is chosen\. Choose with tokenizer=…: bpe, byte"
    ):
        gptkit.compose(["~tokenizer"])


@pytest.mark.parametrize(
    "word", ["hydra.verbose=true", "+hydra/launcher=basic", "hydra.searchpath=[pkg://os]", "hydra=x"]
)
def test_hydra_itself_is_out_of_reach(word: str) -> None:
    with pytest.raises(ConfigError, match=r"no such (key|group)") as caught:
        gptkit.compose([word])
    assert "+" not in str(caught.value)


@pytest.mark.parametrize("value", ["${optimizer.lr}", object(), {"_target_": "os.system"}])
def test_what_is_unsafe_hides_nothing_and_is_told_first(value: object) -> None:
    problems = gptkit.validate({"trainer": {"max_stepz": 3}, "optimizer": ["x", value], "data": "none_such"})
    assert problems[0].unsafe
    assert problems[0].key.startswith("optimizer[1]")
    assert [problem.key for problem in problems[1:]] == ["trainer.max_stepz", "data"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("model=gpt2", r"^overrides: expected a list of words, got the text .*\. Give \['model=gpt2'\]\.$"),
        (None, r"^overrides: expected a list of words, got null\."),
        ({"model": "gpt2"}, r"^overrides: expected a list of words, got a group of keys\."),
        (["model=gpt2", 5], r"^overrides: expected words, got the number 5\. Each is a text"),
    ],
)
def test_words_come_as_a_list_of_texts(words: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        gptkit.compose(words)


def test_a_verb_that_is_none() -> None:
    with pytest.raises(ConfigError, match=r"trian: no such config\. Did you mean 'train'\?"):
        gptkit.compose([], "trian")
