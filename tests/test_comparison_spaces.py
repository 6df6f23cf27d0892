"""What `tune=` may say, and what is told where it says nothing that can be tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gptkit.cli import main
from gptkit.cli.candidates import candidates
from gptkit.compare import spaces
from gptkit.compare.plan import plan
from gptkit.errors import ConfigError

TINY = ["debug=smoke", "tokenizer=byte", "model.d_model=16", "model.n_layers=1"]
RATES = "tune=optimizer.lr:[1e-4,1e-1]"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        plan([*words, *TINY])
    return str(caught.value)


def tried(*given: str, **own: str) -> list[dict[str, str]]:
    told: dict[str, Any] = {"tune": given, **{key: [value] for key, value in own.items()}}
    found, wrong = spaces.read(told, [1, 2, 3])
    assert not wrong
    assert found is not None
    return list(found.values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[1e-4,3e-3]", ["1e-4", "0.000234", "0.000548", "0.00128", "3e-3"]),
        ("interval(1e-4, 3e-3)", ["1e-4", "0.000234", "0.000548", "0.00128", "3e-3"]),
        ("[1,2]", ["1", "2"]),
        ("[0,0.4]", ["0", "0.1", "0.2", "0.3", "0.4"]),
        ("[1.0,9.0]", ["1.0", "3", "5", "7", "9.0"]),
        ("tag(log, interval(1.0,9.0))", ["1.0", "1.73", "3", "5.2", "9.0"]),
        ("[16,256]", ["16", "32", "64", "128", "256"]),
        ("{1e-4,3e-4}", ["1e-4", "3e-4"]),
        ("1e-4,3e-4,1e-3", ["1e-4", "3e-4", "1e-3"]),
        ("choice(cosine,linear)", ["cosine", "linear"]),
        ("range(1,4)", ["1", "2", "3"]),
    ],
)
def test_the_values_of_a_key(text: str, values: list[str]) -> None:
    assert [entry["a.b"] for entry in tried(f"a.b:{text}")] == values


def test_a_shell_that_takes_braces_apart_does_no_harm() -> None:
    assert tried("a:1", "a:2", "a:3") == tried("a:{1,2,3}")


def test_several_keys() -> None:
    assert tried("a:{1,2}", "b:{x,y}") == [
        {"a": "1", "b": "x"},
        {"a": "1", "b": "y"},
        {"a": "2", "b": "x"},
        {"a": "2", "b": "y"},
    ]
    points = tried("a:[1e-4,1e-2]", "b:[0.0,1.0]", trials="8")
    assert points[:2] == [{"a": "0.001", "b": "0.333"}, {"a": "0.000316", "b": "0.667"}]
    assert len({entry["a"] for entry in points}) == len({entry["b"] for entry in points}) == 8


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tune=optimizer.lr"], "tune: expected a key and its values, got 'optimizer.lr'. Write it as"),
        (["tune=optimizer.lr:[3,1]"], "expected a range whose first end is the lower one, got '[3,1]'."),
        (["tune=optimizer.lr:tag(log,interval(0,1))"], "expected ends above 0 for a logarithm"),
        (["tune=optimizer.lr:1e-3"], "tune=optimizer.lr: one value is nothing to choose from, got '1e-3'."),
        (["tune=optimizer.lrr:[1e-4,1]"], "'adamw' takes no option 'lrr'. Did you mean 'lr'?"),
        (
            ["tune=model.n_heads:{2,3}"],
            "position=rotary model.n_heads=3; position=none model.n_heads=3: model.",
        ),
        ([RATES, "optimizer.lr=1e-3"], "optimizer.lr is set or varied too. Leave one of them out."),
        ([RATES, "trials=1"], "trials: expected a whole number, 2 or more, got '1'."),
        (["tune=optimizer.lr:1e-3,1e-2", "trials=3"], "trials: the lists make 2 combinations"),
        ([RATES, "tune_seed=2", "seed=1,2"], "tune_seed: 2 is reported too"),
        ([RATES, "sweeper=optuna", "tune_seed=7,8"], "tune_seed: Optuna tunes on one seed."),
        ([RATES, "sweeper=optun"], "sweeper: there is no 'optun'. Did you mean 'optuna'?"),
        ([RATES, "pruner=median"], "pruner: a grid runs all its trials. Add sweeper=optuna."),
        (["trials=3"], "trials: nothing is tuned. Name a key and its values: tune=optimizer.lr:[1e-4,3e-3]"),
        (
            ["tune=data.batch_size:[2,4]", "budget=tokens:1e4"],
            "budget: what is tuned changes the tokens of a step. Give trainer.max_steps in place of a budget.",
        ),
        (["tune=model.d_ff:[16,64]", "match=parameters"], "match: what is tuned changes the number of par"),
    ],
)
def test_what_cannot_be_tuned_is_told_before_anything_trains(words: list[str], told: str) -> None:
    assert told in problems("position=rotary,none", *words)
    assert not Path("runs").exists()


def test_what_would_be_tried_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--dry-run", "position=rotary,none", "seed=1,2", RATES, "trials=2", *TINY]) == 0
    told = capsys.readouterr().out
    assert (
        "4 trials first: 2 of each variant, on seed 1000.\n  optimizer.lr=1e-4\n  optimizer.lr=1e-1\n" in told
    )
    assert "4 jobs: 2 variants with 2 seeds each. Nothing was run." in told
    assert candidates("gptkit compare sweeper=") == ["sweeper=grid", "sweeper=optuna"]


def test_a_seed_that_is_reported_tunes_nothing() -> None:
    made = plan(["position=rotary,none", "seed=1000,1001", RATES, *TINY])
    assert made.asked.tuning is not None
    assert made.asked.tuning.seeds == (1002,)
