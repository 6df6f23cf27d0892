"""YAML of the user's: where it may lie, what it may say, and what its mistakes are answered with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import gptkit
from gptkit import registry
from gptkit.composing.tree import Tree
from gptkit.composing.yaml_file import YamlError, parse
from gptkit.errors import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str) -> None:
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, "utf-8")


def answer(*words: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        gptkit.compose(words, **options)
    return str(caught.value).splitlines()


def test_a_conf_folder_here_and_one_that_is_named() -> None:
    write(
        "conf/model/mine.yaml",
        "defaults: [gpt2, override position: rotary, _self_]\npreset: mine\nn_layers: 3\n",
    )
    write(
        "elsewhere/experiment/quick.yaml", "defaults:\n  - override /model: mine\ntrainer: {max_steps: 7}\n"
    )
    config = gptkit.compose(["experiment=quick", "model.n_heads=6"], config_dir="elsewhere")
    assert config["model"]["preset"] == "mine"
    assert config["model"]["position"]["name"] == "rotary"
    assert (config["model"]["n_layers"], config["model"]["n_heads"], config["model"]["d_model"]) == (
        3,
        6,
        768,
    )
    assert config["trainer"]["max_steps"] == 7
    assert gptkit.compose(["model=mine", "position=none"])["model"]["position"] == {"name": "none"}
    assert answer(config_dir="nowhere") == ["--config-dir: nowhere is no folder."]


def test_one_name_in_two_folders_is_an_error_where_it_is_used() -> None:
    write("conf/model/nano.yaml", "defaults: [_slots, _self_]\n")
    [told] = answer()
    assert told.startswith("model/nano: stands in two places: ")
    assert "model/nano.yaml (gptkit) and conf/model/nano.yaml (you). Rename one of them." in told
    assert gptkit.compose(["model=gpt2"])["model"]["preset"] == "gpt2"


def test_the_same_file_twice_is_no_clash() -> None:
    own = Tree().find("model", "nano")
    assert own is not None
    assert own.path is not None
    write("conf/model/nano.yaml", own.path.read_text("utf-8"))
    assert gptkit.compose()["model"]["preset"] == "nano"


MISTAKES = """\
defaults:
  - override /model/positon: rotary
  - override /model/norm: layerr
  - override model/block: post
  - /trainer: ddp
  - 3
model:
  n_headz: 3
  d_model: wide
  feed_forward: none
optimizer:
  name: adamwx
  lrr: 3
tags: [a]
name: ${oc.env:HOME}
"""


def test_every_mistake_in_a_file_is_told_with_its_line() -> None:
    write("conf/experiment/mine.yaml", MISTAKES)
    where = "conf/experiment/mine.yaml"
    assert answer("experiment=mine", "model.n_layer=3") == [
        "name: refers to more than another key. Write ${some.key} or the value; a variable goes on the command line. "
        f"[{where}:15]",
        f"model/positon: no such group. Write '- override /model/position: rotary'. [{where}:2]",
        f"model/norm=layerr: no such option. Did you mean model/norm=layer? [{where}:3]",
        "model/block: a group of another folder begins with a slash. "
        f"Write '- override /model/block: post'. [{where}:4]",
        f"trainer: is chosen already. Write '- override /trainer: ddp'. [{where}:5]",
        f"defaults: 3 is no choice. Write '- group: option'. [{where}:6]",
        "model.feed_forward.name: 'none' is named, but 'mlp' is chosen. Choose it in the file's defaults: "
        f"'- override /model/feed_forward: none'. [{where}:10]",
        f"optimizer=adamwx: no such option. Did you mean optimizer=adamw? [{where}:12]",
        f"model.d_model: expected a whole number, got the text 'wide'. width of the residual stream. [{where}:9]",
        f"model.n_headz: no such key. Did you mean model.n_heads? [{where}:8]",
        "model.n_layer: no such key. Did you mean model.n_layers?",
        f"tags: no such key. Did you mean logger.wandb.tags? [{where}:14]",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: [1\nc: 2\n", "bad.yaml:3: not valid YAML: did not find expected ',' or ']'."),
        (
            "model:\n  n_heads: 2\n  n_heads: 4\n",
            "bad.yaml:3: not valid YAML: the key 'n_heads' stands here twice.",
        ),
        ("\tseed: 1\n", "bad.yaml:1: not valid YAML: found character that cannot start any token."),
        ("- seed\n", "bad.yaml:1: expected keys, such as 'seed: 1'."),
        (
            "seed: !!python/object:os.system x\n",
            "bad.yaml:1: not valid YAML: could not determine a constructor ",
        ),
        ("a: &a [*a]\n", "bad.yaml:1: not valid YAML: it holds itself."),
        (
            "defaults: {model: nano}\n",
            "defaults: expected a list of lines such as '- override /model: gpt2'. [bad.yaml:1]",
        ),
    ],
)
def test_what_is_no_config_is_told_with_its_line(text: str, told: str) -> None:
    write("bad.yaml", text)
    [said] = answer("config=bad.yaml")
    assert said.startswith(told)


CHOSEN = "a group's options are chosen in the defaults list. Write"
WRITTEN: list[tuple[str, list[str]]] = [
    ("model: gpt2\n", [f"model: {CHOSEN} '- override /model: gpt2' below 'defaults:'. [my.yaml:1]"]),
    (
        "seed: 1\nmodel: gtp2\ntrainer: [zzz]\n",
        [
            f"model: {CHOSEN} '- override /model: gpt2' below 'defaults:'. Did you mean model=gpt2? [my.yaml:2]",
            f"trainer: {CHOSEN} '- override /trainer: …' below 'defaults:'. "
            "Available: auto, ddp, fsdp, single. [my.yaml:3]",
        ],
    ),
    (
        "position: rotary\nexperiment: nanogpt_cpu\n",
        [
            f"position: {CHOSEN} '- override /model/position: rotary' below 'defaults:'. [my.yaml:1]",
            f"experiment: {CHOSEN} '- /experiment/nanogpt_cpu' below 'defaults:'. [my.yaml:2]",
        ],
    ),
    (
        "defaults:\n  - model: gtp2\n  - mask: [causal, ful]\n",
        [
            "model: a group of another folder begins with a slash. Write '- override /model: gpt2'. [my.yaml:2]",
            "model=gtp2: no such option. Did you mean model=gpt2? [my.yaml:2]",
            "mask: no such group. Write '- override /model/mask: [causal, full]'. [my.yaml:3]",
            "model/mask=ful: no such option. Did you mean model/mask=full? [my.yaml:3]",
        ],
    ),
    (
        "defaults:\n  - /experiment: nanogpt_cpu\n",
        ["experiment: is chosen already. Write '- /experiment/nanogpt_cpu'. [my.yaml:2]"],
    ),
    (
        "defaults:\n  - rotary\n  - trainer\n  - 'none'\n  - modle: gpt2\n",
        [
            "defaults: 'rotary' is no choice. Write '- override /model/position: rotary'. [my.yaml:2]",
            "defaults: 'trainer' is no choice. Write '- override /trainer: …'. "
            "Available: auto, ddp, fsdp, single. [my.yaml:3]",
            "defaults: 'none' is no choice. Write '- override /…: none' with one of logger, "
            "model/feed_forward, model/norm, model/position. [my.yaml:4]",
            "modle: no such group. Write '- override /model: gpt2'. [my.yaml:5]",
        ],
    ),
    (
        "defaults:\n  - model=gpt2\n",
        ["defaults: 'model=gpt2' is no choice. Write '- override /model: gpt2'. [my.yaml:2]"],
    ),
]


@pytest.mark.parametrize(("text", "told"), WRITTEN, ids=lambda value: str(value)[:20])
def test_a_choice_in_the_wrong_place_is_answered_with_the_line_to_write(text: str, told: list[str]) -> None:
    write("my.yaml", text)
    assert answer("config=my.yaml") == told
    lines = [said.split("Write '")[1].split("'")[0] for said in told if "Write" in said and "…" not in said]
    lines.sort(key=lambda line: "override" in line)  # a recipe stands before what changes its choices
    write("my.yaml", "defaults:\n" + "".join(f"  {line}\n" for line in lines))
    assert gptkit.compose(["config=my.yaml"])


def test_bytes_that_are_no_utf8() -> None:
    Path("bad.yaml").write_bytes(b"seed: 1\nname: \xff\n")
    assert answer("config=bad.yaml") == ["bad.yaml:2: not valid YAML: byte 14 is not UTF-8."]
    Path("bad.yaml").write_bytes("\ufeffseed: 5\n".encode())
    assert gptkit.compose(["config=bad.yaml"])["seed"] == 5


def test_many_aliases_do_not_fill_the_memory() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    write("bad.yaml", bomb)
    assert answer("config=bad.yaml") == [
        "bad.yaml:1: not valid YAML: its aliases unfold to more than a config can be."
    ]


def test_numbers_and_keys_mean_what_they_look_like() -> None:
    assert parse("{a: 1e-3, b: 2:4, c: 010, d: 2026-01-31, 0: x, on: off, e: 1_000, f: 0x1f, g: .5}") == {
        "a": 0.001, "b": "2:4", "c": "010", "d": "2026-01-31", "0": "x", "on": False, "e": 1000, "f": 31, "g": 0.5,
    }  # fmt: skip
    with pytest.raises(YamlError, match="a key is text"):
        parse("[1]: 2")


def test_a_whole_config_comes_back_as_it_is() -> None:
    config = gptkit.compose(
        [
            "model=gpt2",
            "feed_forward=none",
            "mask=[full]",
            "position=alibi",
            "logger=csv",
            "model.layers.0.norm=none",
        ]
    )
    Path("whole.json").write_text(json.dumps(config))
    assert gptkit.compose(["config=whole.json"]) == config
    bare = gptkit.compose(["logger=none", "mask=[]"])
    Path("bare.json").write_text(json.dumps(bare))
    assert gptkit.compose(["config=bare.json"]) == bare
    assert list(gptkit.compose(["config=whole.json", "logger=[csv,wandb]"])["logger"]) == ["csv", "wandb"]
    assert gptkit.compose(["config=whole.json", "logger=none", "position=none"])["logger"] == {}
    run = Path("run")
    run.mkdir()
    (run / "config.json").write_text(json.dumps(config))
    assert gptkit.compose(["config=run", "seed=3"]) == {**config, "seed": 3}


def test_values_without_a_defaults_list() -> None:
    write(
        "mine.yaml",
        "model:\n  position: {name: rotary, base: 50}\n  mask: [sliding_window]\noptimizer: {lr: 3e-4}\n",
    )
    model = gptkit.compose(["config=mine.yaml"])["model"]
    assert model["position"] == {"name": "rotary", "base": 50, "fraction": 1.0, "interleaved": False}
    assert model["mask"] == {"sliding_window": {"window": 128}}
    assert gptkit.compose(["config=mine.yaml", "position=none"])["model"]["position"] == {"name": "none"}
    write("mine.yaml", "model:\n  position: {name: rotery, base: 50}\n  n_headz: 2\n")
    assert answer("config=mine.yaml") == [
        "model/position=rotery: no such option. Did you mean model/position=rotary? [mine.yaml:2]",
        "model.n_headz: no such key. Did you mean model.n_heads? [mine.yaml:3]",
    ]
    Path("other").mkdir()
    assert answer("config=mien.yaml") == [
        "config=mien.yaml: there is no such file. Did you mean config=mine.yaml?"
    ]


def test_a_preset_that_leaves_slots_open() -> None:
    write("conf/model/mine.yaml", "defaults: [position: rotary, mask: causal]\nn_layers: 2\n")
    [told] = answer("model=mine", "position=none")
    assert told == (
        "model/mine: chooses no attention, norm, feed_forward, block, embedding, head, init. "
        "Begin its defaults list with '- _slots'. [conf/model/mine.yaml:1]"
    )


def test_a_preset_of_the_users_may_pin_options_to_a_part() -> None:
    write(
        "conf/model/mine.yaml",
        "defaults: [_slots, override position: rotary, override mask: [causal, sliding_window], _self_]\n"
        "position: {name: rotary, base: 7}\nmask: {sliding_window: {window: 3}}\n",
    )
    model = gptkit.compose(["model=mine"])["model"]
    assert (model["position"]["base"], model["mask"]["sliding_window"]["window"]) == (7, 3)
    model = gptkit.compose(["model=mine", "position=alibi", "mask=causal"])["model"]
    assert (model["position"], model["mask"]) == ({"name": "alibi"}, {"causal": {}})


def test_a_group_of_the_users_own() -> None:
    write("conf/size/wide.yaml", "# @package model\nd_model: 256\nn_heads: 8\n")
    model = gptkit.compose(["size=wide"])["model"]
    assert (model["d_model"], model["n_heads"]) == (256, 8)
    assert answer("size=wiide") == ["size=wiide: no such option. Did you mean size=wide?"]


def test_two_groups_that_end_alike_need_their_full_name() -> None:
    write("conf/vision/position/grid.yaml", "x: 1\n")
    assert answer("position=rotary") == [
        "position: may mean several groups. Say which: model/position, vision/position."
    ]


@pytest.mark.parametrize(
    "text",
    [
        "_target_: os.system\n",
        "model:\n  position: {_target_: os.system, _args_: [touch /tmp/x]}\n",
        "optimizer: {lr: '${oc.env:HOME}'}\n",
        "name: '${oc.env:HOME}'\n",
        "name: '${oc.${x}:HOME}'\n",
        "name: '${now:%Y}'\n",
        "hydra:\n  searchpath: [pkg://antigravity]\n",
        "defaults:\n  - override /hydra/launcher: basic\n",
        "defaults:\n  - ../../../etc/passwd\n",
        "defaults:\n  - /../x\n",
        "defaults:\n  - override /model: ../../x\n",
        "defaults:\n  - override /model: ${oc.env:HOME}\n",
        "defaults:\n  - override /model/position: os.system\n",
        "defaults:\n  - pkg://antigravity\n",
        "model:\n  position: gptkit.model.positions.Learned\n",
    ],
)
def test_a_file_runs_nothing_and_reads_no_variables(text: str) -> None:
    write("conf/experiment/bad.yaml", text)
    write("bad.yaml", text)
    for words in (["experiment=bad"], ["config=bad.yaml"]):
        told = "\n".join(answer(*words))
        assert str(Path.home()) not in told.replace(os.getcwd(), "")


def test_a_plugin_that_is_broken_stops_only_those_who_use_it(here: Path) -> None:
    write("plugins/broken/pyproject.toml", "[project\n")
    write(
        "plugins/odd/pyproject.toml",
        '[project]\nname = "odd"\nversion = "1"\n[project.entry-points."gptkit.model.norm"]\nodd = "odd:Odd"\n',
    )
    registry.refresh()
    try:
        assert gptkit.compose()["model"]["preset"] == "nano"
        assert "odd" in registry.names("model.norm")
        [told] = answer("norm=odd")
        where = here / "plugins/odd"
        assert told == (
            f"model.norm: 'odd' of folder odd 1 ({where}) names odd:Odd, but that module's source is not there. "
            "Reinstall the plugin."
        )
        [told] = answer("norm=oddd")
        assert "Did you mean model/norm=odd?" in told
        assert "not valid TOML" in told
    finally:
        registry.refresh()


def test_a_plugins_yaml_and_parts_are_found() -> None:
    write("plugins/gate.py", GATE)
    registry.refresh()
    try:
        assert gptkit.compose(["feed_forward=gate"])["model"]["feed_forward"] == {
            "name": "gate",
            "hard": False,
        }
        assert answer("feed_forward=gate", "model.feed_forward.hrd=true") == [
            "model.feed_forward.hrd: 'gate' takes no option 'hrd'. Did you mean 'hard'? It takes: hard."
        ]
    finally:
        registry.refresh()


GATE = '''
from gptkit import register
raise RuntimeError("imported")

@register("model.feed_forward", "gate")
class Gate:
    """A gate.

    Args:
        hard: open or shut.
    """

    def __init__(self, shape, *, hard: bool = False) -> None: ...
'''
