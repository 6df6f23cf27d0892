"""Loggers: tables and event files that can be read back, and failures that stay their own."""

from __future__ import annotations

import csv
import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest

from gptkit import registry
from gptkit.errors import UserError
from gptkit.train import metrics
from gptkit.train.loggers import Logger, Loggers, build_loggers
from gptkit.train.loggers.csv_logger import CsvLogger
from gptkit.train.loggers.tensorboard_logger import TensorBoardLogger
from gptkit.train.metrics import MetricsLog


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_gains_columns_and_keeps_rows(tmp_path: Path) -> None:
    logger = CsvLogger()
    logger.start(tmp_path, {}, "r")
    logger.log({"loss": 2.5}, 1)
    assert table(tmp_path) == [{"step": "1", "loss": "2.5"}]
    logger.log({"loss": 2.0, "val_loss": 2.25}, 2)
    logger.log({"val_loss": math.nan}, 3)
    assert table(tmp_path) == [
        {"step": "1", "loss": "2.5", "val_loss": ""},
        {"step": "2", "loss": "2.0", "val_loss": "2.25"},
        {"step": "3", "loss": "", "val_loss": "nan"},
    ]
    logger.finish({})


def test_csv_goes_on_from_metrics_jsonl(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\n1,5.0\n2,4.0\n3,3.0\n")
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write({"step": 1, "loss": 5.0})
        log.write({"step": 2, "loss": 4.0, "val_loss": 4.5})
    logger = CsvLogger()
    logger.start(tmp_path, {}, "r")
    logger.log({"loss": 3.5}, 3)
    logger.finish({})
    assert [(row["step"], row["loss"], row["val_loss"]) for row in table(tmp_path)] == [
        ("1", "5.0", ""),
        ("2", "4.0", "4.5"),
        ("3", "3.5", ""),
    ]


def events(folder: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def test_tensorboard_files_read_back_and_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        first = TensorBoardLogger()
        first.start(tmp_path, {"seed": 7}, "r")
        for step in range(1, 6):
            log.write({"step": step, "loss": 5.0 - step})
            first.log({"loss": 5.0 - step}, step)
        first.text("sample", "line one\n  two", 5)
        first.finish({"val_loss": 1.0})
    MetricsLog(tmp_path / "metrics.jsonl", resume_step=3).close()
    second = TensorBoardLogger()
    second.start(tmp_path, {"seed": 7}, "r")
    second.log({"loss": 0.25}, 4)
    second.finish({})
    found = events(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(1, 4.0), (2, 3.0), (3, 2.0), (4, 0.25)]
    assert '"seed": 7' in found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_tensorboard_added_later_holds_what_went_before(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write({"step": 2, "loss": 4.0})
    logger = TensorBoardLogger()
    logger.start(tmp_path, {}, "r")
    logger.log({"loss": 3.0}, 4)
    logger.finish({})
    assert [(e.step, e.value) for e in events(tmp_path).Scalars("loss")] == [(2, 4.0), (4, 3.0)]


def test_missing_tensorboard_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'gptkit\[tensorboard\]'"):
        build_loggers({"tensorboard": {}})


class Fragile(Logger):
    """Fails at its second row."""

    def __init__(self) -> None:
        self.rows = 0

    def log(self, metrics: Any, step: int) -> None:
        self.rows += 1
        if self.rows == 2:
            raise OSError("the disk is gone")

    def messages(self) -> list[str]:
        return [f"row {self.rows}"]


class Counting(Logger):
    """Counts what reaches it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, run_dir: Path, config: dict[str, Any], run_id: str) -> None:
        self.calls.append("start")

    def log(self, metrics: Any, step: int) -> None:
        self.calls.append(f"log {step}")

    def text(self, name: str, text: str, step: int) -> None:
        self.calls.append("text")

    def image(self, name: str, path: Path) -> None:
        self.calls.append("image")

    def finish(self, result: dict[str, Any]) -> None:
        self.calls.append("finish")


def test_a_logger_that_fails_is_off_and_the_others_go_on(tmp_path: Path) -> None:
    said: list[str] = []
    fragile, counting = Fragile(), Counting()
    loggers = Loggers({"fragile": fragile, "counting": counting}, said.append)
    loggers.start(tmp_path, {}, "r")
    for step in (1, 2, 3):
        loggers.log({"loss": 1.0}, step)
    loggers.text("sample", "x", 3)
    loggers.image("curve", tmp_path)
    loggers.finish({})
    assert fragile.rows == 2
    assert counting.calls == ["start", "log 1", "log 2", "log 3", "text", "image", "finish"]
    assert said == [
        "row 0",
        "row 1",
        "logger 'fragile' failed and is off for the rest of this run (OSError: the disk is gone).",
    ]


def test_every_logger_is_named_and_has_its_yaml() -> None:
    import yaml

    assert registry.names("logger") == ["csv", "tensorboard", "wandb"]
    conf = Path(__file__).parents[1] / "conf" / "logger"
    assert yaml.safe_load((conf / "none.yaml").read_text()) == {}
    for name in registry.names("logger"):
        written = yaml.safe_load((conf / f"{name}.yaml").read_text())[name]
        options = registry.find("logger", name).declaration.options
        assert written == {option.name: option.default for option in options}
        assert all(option.help for option in options)


def test_several_at_once(tmp_path: Path) -> None:
    loggers = build_loggers({"csv": {}, "wandb": {"mode": "disabled"}})
    loggers.start(tmp_path, {}, "r")
    loggers.log({"loss": 1.0}, 1)
    loggers.finish({})
    assert table(tmp_path) == [{"step": "1", "loss": "1.0"}]
    assert metrics.read(tmp_path / "metrics.jsonl") == []
