"""The wandb logger: read back from wandb's own file, and through every way that a server can fail."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gptkit.train.loggers import Loggers, wandb_account
from gptkit.train.loggers.wandb_logger import WandbLogger
from gptkit.train.metrics import MetricsLog
from wandb_file import Kept, offline_file
from wandb_server import Server

CONFIG = {"seed": 1, "model": {"d_model": 32, "position": {"name": "learned"}}, "data": {"path": ["a.txt"]}}
KEY = "0123456789" * 4
SAMPLE = "To be <b>&\nor not"


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that knows no account."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "no-settings"))


class Training:
    """Something like training: rows into metrics.jsonl and a logger, one a step."""

    def __init__(self, folder: Path, logger: WandbLogger, resume: int | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.said = folder, []
        self.loggers = Loggers({"wandb": logger}, self.said.append)
        self.log = MetricsLog(folder / "metrics.jsonl", resume)
        self.loggers.start(folder, CONFIG, "run-1")

    def steps(self, first: int, last: int, pause: float = 0.0) -> Training:
        for step in range(first, last + 1):
            row: dict[str, Any] = {"loss": 5.0 / step, "tokens": 768 * step}
            row |= {"val_loss": 6.0 / step} if step % 5 == 0 else {}
            self.log.write({"step": step, **row})
            self.loggers.log(row, step)
            time.sleep(pause)
        return self

    def finish(self, **result: Any) -> Training:
        self.loggers.finish({"status": "finished", "val_loss": 1.5, **result})
        self.log.close()
        return self


def expected(first: int, last: int) -> list[dict[str, Any]]:
    return [
        {"step": s, "loss": 5.0 / s, "tokens": 768 * s, **({"val_loss": 6.0 / s} if s % 5 == 0 else {})}
        for s in range(first, last + 1)
    ]


def test_offline_file_holds_config_metrics_samples_curve_and_result(tmp_path: Path) -> None:
    before = dict(os.environ)
    training = Training(tmp_path / "r", WandbLogger(tags=["a"], group="g", job_type="j", notes="n")).steps(
        1, 12
    )
    training.loggers.text("sample", SAMPLE, 12)
    training.loggers.log({"loss": float("nan")}, 13)
    (tmp_path / "curve.svg").write_text("<svg>curve</svg>")
    training.loggers.image("curve", tmp_path / "curve.svg")
    training.finish(parameters=99)
    kept = Kept(offline_file(tmp_path / "r"))
    assert {key: kept.config[key] for key in CONFIG} == CONFIG
    assert kept.metric_rows()[:-1] == expected(1, 12)
    assert math.isnan(kept.metric_rows()[-1]["loss"])
    assert "To be &lt;b&gt;&amp;\nor not" in kept.pages("sample")[12]
    assert [row["sample_text"] for row in kept.rows if "sample_text" in row] == [SAMPLE]
    assert kept.pages("curve") == {13: "<svg>curve</svg>"}
    assert (kept.summary["parameters"], kept.summary["val_loss"], kept.exit_code) == (99, 1.5, 0)
    assert (kept.run.run_id, kept.run.display_name, kept.run.project) == ("run-1", "r", "gptkit")
    assert (list(kept.run.tags), kept.run.run_group, kept.run.job_type) == (["a"], "g", "j")
    assert [m.step_metric for m in kept.metrics if m.glob_name == "*"] == ["step"]
    assert len(training.said) == 1
    assert "no key for api.wandb.ai" in training.said[0]
    assert "wandb sync" in training.said[0]
    assert dict(os.environ) == before


def test_refusing_server_costs_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    start = time.perf_counter()
    training = Training(tmp_path / "r", WandbLogger()).steps(1, 50, pause=0.02)
    assert time.perf_counter() - start - 50 * 0.02 < 1.0
    training.finish()
    assert Kept(offline_file(tmp_path / "r")).metric_rows() == expected(1, 50)
    assert [line for line in training.said if "127.0.0.1:9 cannot be reached" in line]
    files = [path for path in (tmp_path / "r").rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()], "a key is nobody's business"


def test_silent_server_is_given_up_and_the_run_kept_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    server.silent.set()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    start = time.perf_counter()
    training = Training(tmp_path / "r", WandbLogger(init_timeout=2.5)).steps(1, 20, pause=0.01)
    assert time.perf_counter() - start < 1.2
    training.finish()
    assert time.perf_counter() - start < 20
    assert Kept(offline_file(tmp_path / "r")).metric_rows() == expected(1, 20)
    assert "no answer from" in training.said[-1]
    server.shutdown()


def test_online_run_reaches_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    training = Training(tmp_path / "r", WandbLogger(project="mine", finish_timeout=60)).steps(1, 8)
    training.loggers.text("sample", SAMPLE, 8)
    training.finish()
    sent = [row for row in server.history() if "loss" in row]
    assert [(row["step"], row["loss"]) for row in sent] == [
        (row["step"], row["loss"]) for row in expected(1, 8)
    ]
    assert any(path.startswith("/upload/media/html/sample") for path, _ in server.received)
    assert training.said == [f"wandb: {server.url}/me/mine/runs/run-1"] or training.said[0].endswith(
        "/runs/run-1"
    )
    assert not list((tmp_path / "r" / "wandb").glob("offline-run-*"))
    server.shutdown()


def test_resumed_online_run_sends_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(resumed_at=5)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    (tmp_path / "r").mkdir()
    with MetricsLog(tmp_path / "r" / "metrics.jsonl") as log:
        for row in expected(1, 6):
            log.write(row)
    Training(tmp_path / "r", WandbLogger(finish_timeout=60), resume=6).steps(7, 9).finish()
    assert [row["step"] for row in server.history() if "loss" in row] == [6, 7, 8, 9]
    server.shutdown()


def test_server_that_falls_silent_at_the_end_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    training = Training(tmp_path / "r", WandbLogger(finish_timeout=2.0)).steps(1, 5)
    deadline = time.perf_counter() + 30
    while not training.said and time.perf_counter() < deadline:
        time.sleep(0.1)
        training.loggers.text("wait", "x", 5)
    server.silent.set()
    start = time.perf_counter()
    training.steps(6, 10).finish()
    assert time.perf_counter() - start < 7
    assert "not all was sent" in training.said[-1]
    (file,) = (tmp_path / "r" / "wandb").glob("run-*/*.wandb")
    deadline = time.perf_counter() + 10
    while len(Kept(file).metric_rows()) < 10 and time.perf_counter() < deadline:
        time.sleep(0.2)
    assert Kept(file).metric_rows() == expected(1, 10)
    server.shutdown()


def test_resumed_offline_run_holds_its_earlier_parts(tmp_path: Path) -> None:
    first = Training(tmp_path / "r", WandbLogger(mode="offline")).steps(1, 8)
    first.loggers.text("sample", "early", 5)
    first.loggers.text("sample", "late", 8)
    first.finish(status="stopped")
    Training(tmp_path / "r", WandbLogger(mode="offline"), resume=6).steps(7, 9).finish()
    kept = Kept(offline_file(tmp_path / "r"))
    assert kept.metric_rows() == expected(1, 9)
    assert [(row["step"], row["sample_text"]) for row in kept.rows if "sample_text" in row] == [(5, "early")]
    assert kept.run.run_id == "run-1"
    assert len(list((tmp_path / "r" / "wandb" / "earlier").iterdir())) == 1


SCRIPT = """
import sys, time
from pathlib import Path
from gptkit.train.loggers import build_loggers
loggers = build_loggers({"wandb": {}})
loggers.start(Path(sys.argv[1]), {}, "run-1")
for step in range(1, 10**6):
    loggers.log({"loss": 5.0 / step}, step)
    assert "wandb" not in sys.modules, "it belongs into its own process"
    print(step, flush=True)
    time.sleep(0.02)
"""


def test_killed_training_leaves_a_whole_file_and_no_process(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "r")]
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    assert trainer.stdout is not None
    for line in trainer.stdout:
        if list((tmp_path / "r" / "wandb").glob("offline-run-*/*.wandb")) and int(line) > 20:
            break
    trainer.send_signal(signal.SIGKILL)
    steps = int((trainer.stdout.read().split() or [line])[-1])
    trainer.wait()
    trainer.stdout.close()
    deadline = time.perf_counter() + 30
    while _processes(str(tmp_path / "r")) and time.perf_counter() < deadline:
        time.sleep(0.1)
    assert not _processes(str(tmp_path / "r"))
    kept = Kept(offline_file(tmp_path / "r"))
    logged = [row["step"] for row in kept.rows]
    assert logged == list(range(1, len(logged) + 1))
    assert len(logged) >= steps
    assert kept.exit_code == 1


def _processes(word: str) -> list[str]:
    """Processes whose command line holds a word; only where there is /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line and "wandb_process" in line:
            found.append(line)
    return found


def test_a_wandb_that_cannot_be_imported_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "wandb.py").write_text("raise ImportError('half installed')")
    monkeypatch.syspath_prepend(tmp_path / "broken")
    training = Training(tmp_path / "r", WandbLogger(mode="offline")).steps(1, 3).finish()
    assert "half installed" in training.said[-1]
    assert "metrics.jsonl has all of it" in training.said[-1]


def test_a_wandb_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hanging").mkdir()
    (tmp_path / "hanging" / "wandb.py").write_text("import time\ntime.sleep(1000)")
    monkeypatch.syspath_prepend(tmp_path / "hanging")
    start = time.perf_counter()
    training = Training(tmp_path / "r", WandbLogger(mode="offline", finish_timeout=0.5)).steps(1, 3).finish()
    assert time.perf_counter() - start < 5
    assert "not all was sent" in training.said[-1]
    assert not _processes(str(tmp_path / "r"))


def test_disabled_does_nothing(tmp_path: Path) -> None:
    Training(tmp_path / "r", WandbLogger(mode="disabled")).steps(1, 3).finish()
    assert not (tmp_path / "r" / "wandb").exists()


@pytest.mark.parametrize(
    ("mode", "environment", "netrc", "settled"),
    [
        ("auto", {}, "", "offline"),
        ("auto", {"WANDB_API_KEY": KEY}, "", "online"),
        ("auto", {}, f"machine api.wandb.ai login user password {KEY}", "online"),
        ("auto", {}, f"machine elsewhere.example login user password {KEY}", "offline"),
        (
            "auto",
            {"WANDB_BASE_URL": "https://w.example:8080"},
            f"machine w.example:8080 login u password {KEY}",
            "online",
        ),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "", "offline"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "", "disabled"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "online"}, "", "online"),
        ("auto", {}, "machine without an end {", "offline"),
        ("online", {}, "", "offline"),
        ("offline", {"WANDB_API_KEY": KEY}, "", "offline"),
        ("disabled", {"WANDB_API_KEY": KEY}, "", "disabled"),
    ],
)
def test_modes(
    mode: str,
    environment: dict[str, str],
    netrc: str,
    settled: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    if netrc:
        (tmp_path / "netrc").write_text(netrc)
    assert wandb_account.settle(mode)[0] == settled


def test_settings_file_names_server_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "settings").write_text(f"[default]\nbase_url = https://own.example/\napi_key = {KEY}\n")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "w"))
    assert wandb_account.base_url() == "https://own.example"
    assert wandb_account.has_key()
