"""`gptkit.compare.plan`: words become points; what is wrong is told before anything trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gptkit
from gptkit.cli import main
from gptkit.compare.equal import Budget, matching_width, sizes, tokens_per_step
from gptkit.compare.plan import plan
from gptkit.compare.results import Point
from gptkit.composing.sweeps import spread
from gptkit.errors import ConfigError

TINY = ["debug=smoke", "tokenizer=byte"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        plan(words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("position=rotary,learned", ["rotary", "learned"]),
        ("optimizer.lr=1e-4,0.002", ["1e-4", "0.002"]),
        ("seed=range(1,4)", ["1", "2", "3"]),
        ("position=choice(rotary,none)", ["rotary", "none"]),
        ("position=glob(kerple*)", ["kerple_log", "kerple_power"]),
        ("mask=[causal,sliding_window],[causal]", ["[causal,sliding_window]", "[causal]"]),
        ("name='a,b',c", ["'a,b'", "c"]),
        ("a={x:1,y:2},{x:3}", ["{x:1,y:2}", "{x:3}"]),
        ("a=sort(3,1,2)", ["1", "2", "3"]),
        ("mask=[causal,sliding_window]", ["[causal,sliding_window]"]),
        ('trainer.sample_prompt="a,b"', ['"a,b"']),
        ("data.path=/a/b.txt", ["/a/b.txt"]),
        ("a=,b", [",b"]),
    ],
)
def test_the_grammar_of_sweeps(word: str, values: list[str]) -> None:
    assert spread(word) == values


def test_patterns_and_ranges_without_end_are_refused() -> None:
    assert "List them: optimizer.lr=1,2,3." in problems("optimizer.lr=interval(0,1)")
    assert "the pattern meets no option. Available: alibi" in problems("position=glob(q*)")


def test_a_grid_with_seeds() -> None:
    made = plan(["position=rotary,none", "model.n_heads=1,2", "seed=3,5", *TINY])
    assert made.varied == ["position", "model.n_heads"]
    assert made.labels == [
        "position=rotary, n_heads=1",
        "position=rotary, n_heads=2",
        "position=none, n_heads=1",
        "position=none, n_heads=2",
    ]
    assert [point.number for point in made.points] == list(range(8))
    assert [point.seed for point in made.points] == [3] * 4 + [5] * 4
    for point, config in zip(made.points, made.configs, strict=True):
        assert config == gptkit.compose(point.overrides)
        assert config["seed"] == point.seed
        assert config["model"]["position"]["name"] == point.variant["position"]
        assert str(config["model"]["n_heads"]) == point.variant["model.n_heads"]
    assert [p.seed for p in plan(["position=rotary,none", *TINY]).points] == [1, 1, 2, 2, 3, 3]


def test_the_seed_is_told_to_whatever_asks_for_it() -> None:
    made = plan(["position=rotary,none", "trainer.log_every=${seed}", "seed=1,7", *TINY])
    assert [config["trainer"]["log_every"] for config in made.configs] == [1, 1, 7, 7]


def test_pairs() -> None:
    words = ["position=rotary,none", "optimizer.lr=1e-3,2e-3", "model.n_heads=1,2", *TINY]
    made = plan([*words, "zip=position,optimizer.lr", "seed=1"])
    chosen = [tuple(point.variant.values()) for point in made.points]
    assert chosen == [
        ("rotary", "1e-3", "1"),
        ("rotary", "1e-3", "2"),
        ("none", "2e-3", "1"),
        ("none", "2e-3", "2"),
    ]
    told = problems("position=rotary,none", "optimizer.lr=1,2,3", "zip=position,optimizer.lr")
    assert told == "zip: pairs need equal numbers of values; position has 2, optimizer.lr has 3."
    told = problems("position=rotary,none", "zip=position,optimiser.lr")
    assert "'optimiser.lr' does not vary here." in told


def test_every_wrong_point_is_told_with_its_words() -> None:
    told = problems("position=rotary,lerned", "model.n_heads=2,3", "tokenizer=byte").splitlines()
    assert told == [
        "position=rotary model.n_heads=3; position=lerned model.n_heads=3: "
        "model.n_heads: d_model=128 cannot be split into 3 heads. Take n_heads=2, or set model.d_head.",
        "position=lerned model.n_heads=2; position=lerned model.n_heads=3: "
        "model/position=lerned: no such option. Did you mean model/position=learned?",
    ]
    told = problems("position=rotary,none", "model.n_headz=2")
    assert told.startswith("model.n_headz: ")  # wrong for all, told once


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["position=rotary"], "Nothing differs between the runs. Give a key several values"),
        (["position=rotary,none,rotary"], "position: rotary is named twice."),
        (["position=rotary,none", "position=alibi,none"], "position: varies twice."),
        (["seed=a"], "seed: expected whole numbers, such as 1,2,3 or range(1,6), got 'a'."),
        (["budget=token:1"], "got 'token:1'. Did you mean 'tokens'?"),
        (["budget=tokens:-1"], "expected a positive number after tokens:, got '-1'."),
        (["lengths=1,x"], "lengths: expected positive factors, such as 0.5,1,2, or none, got '1,x'."),
        (["metric=accuracy"], "metric: expected val_loss, val_bits_per_byte"),
        (["jobs=none"], "jobs: expected auto or a whole number, 1 or more, got 'none'."),
        (["match=flops"], "match: expected parameters, got 'flops'."),
    ],
)
def test_mistakes(words: list[str], told: str) -> None:
    assert told in problems(*words)


def test_several_mistakes_are_told_at_once() -> None:
    told = problems("jobs=0", "seed=x", "metric=q").splitlines()
    assert [line.split(":")[0] for line in told] == [
        "seed",
        "metric",
        "jobs",
        "Nothing differs between the runs. Give a key several values",
    ]


@pytest.mark.parametrize(
    ("variant", "label"),
    [
        ({"position": "rotary"}, "rotary"),
        ({"model.n_layers": "2"}, "n_layers=2"),
        ({"model.bias": "true"}, "bias=true"),
        ({"position": "rotary", "model.n_heads": "2"}, "position=rotary, n_heads=2"),
        ({}, ""),
    ],
)
def test_a_variant_is_named_by_what_says_something(variant: dict[str, str], label: str) -> None:
    assert Point(0, variant, 1, []).label == label


def test_the_baseline_is_a_variant() -> None:
    words = ["position=rotary,none", *TINY]
    assert plan([*words, "baseline=none"]).sweep()["baseline"] == "none"
    assert problems(*words, "baseline=nome") == "baseline: no variant is called 'nome'. Did you mean 'none'?"


def test_budgets() -> None:
    words = ["model.context_length=16,32", "seed=1", *TINY, "data.batch_size=4"]
    made = plan([*words, "budget=tokens:6400"])
    assert [config["trainer"]["max_steps"] for config in made.configs] == [100, 50]
    assert made.sweep()["budget"] == {"kind": "tokens", "value": 6400.0}

    made = plan([*words, "budget=flops:1e9"])
    for config in made.configs:
        used = config["trainer"]["max_steps"] * tokens_per_step(config) * sizes(config).flops_per_token
        assert used == pytest.approx(1e9, rel=0.05)

    made = plan([*words, "budget=seconds:30"])
    for config in made.configs:
        assert config["callback"]["time_limit"]["minutes"] == 0.5
        assert config["trainer"]["max_steps"] == 4
    assert plan(words).sweep()["budget"] is None
    told = problems(*words, "budget=tokens:1e4", "trainer.max_steps=3")
    assert told == "budget: budget=tokens decides trainer.max_steps. Leave one of them out."


def test_a_budget_in_tokens_is_what_training_counts() -> None:
    assert (
        main(
            [
                "train",
                *TINY,
                "data.batch_size=3",
                *Budget.read("tokens:300").words(gptkit.compose([*TINY, "data.batch_size=3"])),
            ]
        )
        == 0
    )
    [place] = Path("runs").iterdir()
    result = json.loads((place / "result.json").read_text())
    assert result["tokens"] == 3 * 32 * result["steps"] == 288


def test_parameters_are_matched() -> None:
    made = plan(["feed_forward=mlp,swiglu", "position=rotary,learned", "match=parameters", "seed=1", *TINY])
    counts = [sizes(config).parameters for config in made.configs]
    assert made.match is not None
    assert made.match["parameters"] == counts[0]
    for point, config, count in zip(made.points, made.configs, counts, strict=True):
        record = made.match["variants"][point.label]
        assert record["parameters"] == count
        assert record["difference"] == pytest.approx((count - counts[0]) / counts[0])
        assert abs(record["difference"]) < 0.005
        if record["d_ff"] is not None:
            assert config["model"]["d_ff"] == record["d_ff"]
            assert f"model.d_ff={record['d_ff']}" in point.overrides
    assert made.configs[0]["model"]["d_ff"] is None
    assert (made.sweep()["budget"], made.sweep()["match"]["parameters"]) == (None, counts[0])
    told = problems("model.d_ff=64,128", "match=parameters", *TINY)
    assert told == "match: it adjusts model.d_ff, which varies here. Leave one of them out."


def test_the_nearest_width_is_found() -> None:
    config = gptkit.compose(TINY)
    target = sizes(gptkit.compose([*TINY, "model.d_ff=77"])).parameters
    assert matching_width(config, target) == (77, target)
    each = sizes(gptkit.compose([*TINY, "model.d_ff=78"])).parameters - target
    assert matching_width(config, target + each // 3) == (77, target)
    assert matching_width(config, target + each - 1) == (78, target + each)
    bare = gptkit.compose(["model=attention_only", *TINY])
    assert matching_width(bare, target) == (None, sizes(bare).parameters)


def test_the_folder_of_a_sweep(here: Path) -> None:
    words = ["position=rotary,none", "seed=1,2", "name=my sweep", *TINY, "logger=[wandb]"]
    made = plan(words)
    assert list(here.iterdir()) == []
    folder = made.create()
    sweep = json.loads((folder / "sweep.json").read_text())
    assert folder.parent == Path("runs")
    assert "-my-sweep-" in folder.name
    assert sweep["format"] == 1
    assert sweep["command"] == words
    assert sweep["varied"] == ["position"]
    assert sweep["lengths"] == [0.25, 0.5, 1, 2, 4, 8, 16]
    assert sweep["versions"]["gptkit"] == gptkit.__version__
    assert [point["overrides"] for point in sweep["points"]] == [list(p.overrides) for p in made.points]
    assert sorted(path.name for path in (folder / "jobs").iterdir()) == ["000", "001", "002", "003"]
    config = json.loads((folder / "jobs/003/config.json").read_text())
    assert (config["model"]["position"]["name"], config["seed"]) == ("none", 2)
    told = config["logger"]["wandb"]
    assert (told["group"], told["name"], told["job_type"]) == (folder.name, "none, seed 2", "compare")


def test_what_the_user_calls_runs_on_wandb_stays() -> None:
    words = ["position=rotary,none", "seed=1", *TINY, "logger=[wandb]", "logger.wandb.group=mine"]
    config = json.loads((plan(words).create() / "jobs/000/config.json").read_text())
    assert (config["logger"]["wandb"]["group"], config["logger"]["wandb"]["name"]) == (
        "mine",
        "rotary, seed 1",
    )


def test_a_dry_run_lists_the_points(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "position=rotary,none", "seed=1,2", *TINY, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "4 jobs: 2 variants with 2 seeds each. Nothing was run." in told
    parameters = f"{sizes(gptkit.compose([*TINY, 'position=rotary'])).parameters:,}"
    assert [line.split()[:4] for line in told.splitlines()[1:3]] == [
        ["rotary", "1,2", parameters, "4"],
        ["none", "1,2", parameters, "4"],
    ]
    assert main(["compare", "position=rotary,none", *TINY, "--dry-run", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["points"]) == 6
    assert list(here.iterdir()) == []


def test_planning_needs_no_torch(here: Path) -> None:
    code = (
        "import sys; from gptkit.compare.plan import plan\n"
        "plan(['position=rotary,none', 'budget=tokens:1e4']).create()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
