"""Weights & Biases, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from gptkit.errors import check_options
from gptkit.registry import register
from gptkit.train import metrics as truth
from gptkit.train.loggers import wandb_account, wandb_process
from gptkit.train.loggers.base import Cell, Logger, Metrics

KILL_AFTER = 2.0  # seconds that the process has to end by itself once its own time is over


@register("logger", "wandb")
class WandbLogger(Logger):
    """Sends a run to Weights & Biases, or keeps it in the run's folder to be sent later.

    wandb lives in a process of its own, which reads what is logged from a file, wandb/events.jsonl.
    Training only appends to that file, so it neither waits for a server nor fails with one, and no
    state of wandb outlasts a run. A server that does not answer turns the run into an offline one
    that starts from the first event again.

    Args:
        project: the project that the run belongs to.
        entity: the user or team that owns it; null takes the account's own.
        mode: `auto` is online where there is a key, else offline; WANDB_MODE takes its place.
        name: what the run is called; null takes the name of its folder.
        group: runs that belong together, such as those of a comparison.
        job_type: the kind of run within its group.
        tags: words to find the run by.
        notes: a longer description.
        init_timeout: seconds that the server has to accept the run; training goes on meanwhile.
        finish_timeout: seconds that the last data has to be sent after training.
    """

    def __init__(
        self,
        *,
        project: str = "gptkit",
        entity: str | None = None,
        mode: Literal["auto", "online", "offline", "disabled"] = "auto",
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] = [],  # noqa: B006 - read as plain data, never changed
        notes: str | None = None,
        init_timeout: float = 20.0,
        finish_timeout: float = 20.0,
    ) -> None:
        check_options(
            "logger.wandb",
            ("init_timeout", init_timeout, "a number of at least 0", init_timeout >= 0),
            ("finish_timeout", finish_timeout, "a number of at least 0", finish_timeout >= 0),
        )
        self.mode, self.finish_timeout = mode, finish_timeout
        self._about = {
            "project": project,
            "entity": entity,
            "name": name,
            "group": group,
            "job_type": job_type,
            "tags": list(tags),
            "notes": notes,
            "init_timeout": init_timeout,
            "finish_timeout": finish_timeout,
        }
        self._child: subprocess.Popen[bytes] | None = None
        self._messages: list[str] = []
        self._unread = b""

    def start(self, run_dir: Path, config: dict[str, Any], run_id: str) -> None:
        mode, reason = wandb_account.settle(self.mode)
        if mode == "disabled":
            return
        self.folder = run_dir / "wandb"
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {**self._about, "id": run_id, "name": self._about["name"] or run_dir.name}
        self._events = _begin_events(self.folder, {**about, "config": config, "trainer": os.getpid()})
        if mode == "offline":
            because = f" ({reason})" if reason else ""
            self._messages.append(
                f"wandb: offline{because}; to send this run: {self._send_command('offline-run-*')}"
            )
        self._child = _spawn(self.folder, mode)

    def log(self, metrics: Metrics, step: int) -> None:
        self._write("metrics", step=step, metrics=dict(metrics))

    def text(self, name: str, text: str, step: int) -> None:
        self._write("text", step=step, name=name, text=text)

    def image(self, name: str, path: Path) -> None:
        self._write("image", name=name, path=str(path.resolve()))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        self._write("table", name=name, columns=list(columns), rows=[list(row) for row in rows])

    def finish(self, result: dict[str, Any]) -> None:
        if self._child is None:
            return
        self._write("finish", result=result)
        self._events.close()
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        try:
            status = self._child.wait(self.finish_timeout + KILL_AFTER)
        except subprocess.TimeoutExpired:
            # The part of wandb that writes the file sees the end of this process, and ends the file well.
            self._child.kill()
            self._child.wait()
            status = wandb_process.UNSENT
        if status == wandb_process.UNSENT:
            self._messages.append(
                f"wandb: not all was sent in {self.finish_timeout:g} s, but all is kept; "
                f"to send it: {self._send_command('*run-*')}"
            )
        self._listen()
        self._child.stdout.close()

    def messages(self) -> list[str]:
        self._listen()
        messages, self._messages = self._messages, []
        return messages

    def _listen(self) -> None:
        """Take up what the process has said."""
        if self._child is None or self._child.stdout is None or self._child.stdout.closed:
            return
        while data := _available(self._child.stdout.fileno()):
            self._unread += data
        *lines, self._unread = self._unread.split(b"\n")
        mark = wandb_process.MESSAGE.encode()
        self._messages += [
            line.removeprefix(mark).decode("utf-8", "replace") for line in lines if line.startswith(mark)
        ]

    def _write(self, kind: str, **content: Any) -> None:
        if self._child is not None:
            self._events.write({"kind": kind, **content})

    def _send_command(self, pattern: str) -> str:
        return f"wandb sync {self.folder / pattern}"


def _begin_events(folder: Path, about: dict[str, Any]) -> truth.MetricsLog:
    """Start the file of events: what the run is, then what metrics.jsonl holds of its earlier parts,
    each sample of theirs after the metrics of its step."""
    path, rows = folder / wandb_process.EVENTS, truth.read(folder.parent / "metrics.jsonl")
    last = rows[-1]["step"] if rows else -1
    texts = [e for e in truth.read(path) if e.get("kind") == "text" and e["step"] <= last]
    events = [{"kind": "metrics", "step": row["step"], "metrics": row} for row in rows] + texts
    path.unlink(missing_ok=True)
    log = truth.MetricsLog(path)
    log.write({"kind": "begin", **about})
    for event in sorted(events, key=lambda event: event["step"]):
        log.write(event)
    return log


def _spawn(folder: Path, mode: str) -> subprocess.Popen[bytes]:
    """Start the process; signals for the terminal's group do not reach it, so it can end the run well."""
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    with (folder / "console.log").open("ab") as console:
        child = subprocess.Popen(
            wandb_process.command(folder, mode, sys.path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=console,
            env=environment,
            start_new_session=True,
        )
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    return child


def _available(descriptor: int) -> bytes:
    """What can be read now without waiting."""
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""
