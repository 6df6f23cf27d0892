"""What may change between two parts of a run, and what may not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from gptkit.errors import ConfigError
from gptkit.run import Run
from gptkit.train.resume import check_resumable, check_text, reconfigure
from small_runs import make, trained

CONFIG: dict[str, Any] = {
    "seed": 1,
    "name": "a",
    "devices": 1,
    "model": {"preset": "nano", "d_model": 16, "position": {"name": "rotary", "theta": 10000.0}},
    "data": {"name": "text", "path": "a.txt", "batch_size": 8},
    "tokenizer": {"name": "char"},
    "objective": {"name": "next_token"},
    "optimizer": {"name": "adamw", "lr": 0.001},
    "schedule": {"name": "cosine", "warmup_steps": 5},
    "trainer": {"max_steps": 10},
    "logger": {},
}


def changed(key: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    *path, last = key.split(".")
    node = config
    for part in path:
        node = node[part]
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("seed", 2, "seed"),
        ("model.d_model", 32, "model.d_model"),
        ("model.position", {"name": "alibi"}, "model.position.name"),
        ("model.position.theta", 5.0, "model.position.theta"),
        ("model.n_layers", 3, "model.n_layers"),
        ("data.batch_size", 4, "data.batch_size"),
        ("data.name", "shakespeare", "data.name"),
        ("tokenizer.name", "byte", "tokenizer.name"),
        ("optimizer.name", "muon", "optimizer.name"),
    ],
)
def test_what_decides_the_weights_may_not_change_and_is_named(key: str, value: Any, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_resumable(CONFIG, changed(key, value))
    assert told in [problem.key for problem in caught.value.problems]
    assert "resume" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.max_steps", 99),
        ("optimizer.lr", 0.1),
        ("schedule", {"name": "linear"}),
        ("logger", {"csv": {}}),
        ("devices", 2),
        ("name", "b"),
        ("model.preset", None),
        ("data.path", "moved/a.txt"),
    ],
)
def test_the_rest_may(key: str, value: Any) -> None:
    check_resumable(CONFIG, changed(key, value))


AVERAGE = {"ema": {"decay": 0.9}}


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (AVERAGE, {"ema": {"decay": 0.8}}, "callback.ema.decay"),
        (AVERAGE, {}, "callback.ema"),
        ({}, AVERAGE, "callback.ema"),
        ({"early_stop": {}}, {"early_stop": {}, **AVERAGE}, "callback.ema"),
    ],
)
def test_what_a_run_is_judged_by_may_not_change(
    before: dict[str, Any], now: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_resumable({**CONFIG, "callback": before}, {**CONFIG, "callback": now})
    assert [problem.key for problem in caught.value.problems] == [told]


def test_callbacks_that_only_watch_may_come_and_go() -> None:
    limit = {"time_limit": {"minutes": 1.0}}
    check_resumable({**CONFIG, "callback": AVERAGE}, {**CONFIG, "callback": {**AVERAGE, **limit}})
    check_resumable({**CONFIG, "callback": limit}, CONFIG)


def test_every_problem_is_told_at_once() -> None:
    config = changed("seed", 2)
    config["model"]["d_model"] = 64
    with pytest.raises(ConfigError) as caught:
        check_resumable(CONFIG, config)
    assert [problem.key for problem in caught.value.problems] == ["seed", "model.d_model"]


def test_another_text_under_the_same_name_is_refused() -> None:
    check_text("a", "a")
    with pytest.raises(ConfigError, match=r"data\.path"):
        check_text("a", "b")


def test_a_run_is_given_another_config_only_if_it_may(tmp_path: Path) -> None:
    run = trained(tmp_path, trainer__max_steps=1)
    config = run.config()
    config["trainer"]["max_steps"] = 3
    reconfigure(run, config)
    assert Run(run.path).config()["trainer"]["max_steps"] == 3
    config["model"]["d_model"] = 8
    with pytest.raises(ConfigError, match=r"model\.d_model"):
        reconfigure(run, config)
    config["model"]["d_model"] = 7  # no two heads can share it
    with pytest.raises(ConfigError, match="n_heads"):
        reconfigure(run, config)
    assert Run(run.path).config()["model"]["d_model"] == 16


def test_a_run_without_checkpoints_may_become_any_other(tmp_path: Path) -> None:
    run = make(tmp_path)
    config = run.config()
    config["model"]["d_model"] = 8
    reconfigure(run, config)
    assert Run(run.path).config()["model"]["d_model"] == 8
