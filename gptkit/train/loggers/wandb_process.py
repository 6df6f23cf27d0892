"""The process that wandb lives in: it follows a file of events and tells wandb of each.

It outlives Ctrl-C and a training process that is killed, for just as long as it takes to end the
run well. wandb keeps a failed start in mind for the rest of a process ("run ID is in use"), so to
go offline this one replaces itself by a fresh one, which reads the events from the first again.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gptkit.train.loggers import wandb_account
from gptkit.train.metrics import decode

EVENTS = "events.jsonl"
UNSENT = 3  # the exit status that says that not all has reached the server
MESSAGE = "gptkit: "  # a line of standard output that starts so is for the user
POLL = 0.5  # seconds between two looks at the file
LAST_CHANCE = 5.0  # seconds that a server still has to accept a run that has already ended

_BOOT = (
    "import json, sys; folder, mode, sys.path[:] = json.loads(sys.argv.pop()); "
    "from gptkit.train.loggers.wandb_process import main; main(folder, mode)"
)


def command(folder: Path, mode: str, path: list[str]) -> list[str]:
    """The command line of this process.

    Args:
        folder: where the events lie, the `wandb` folder of a run.
        mode: `online` or `offline`.
        path: where Python looks for modules, so that both processes find the same.
    """
    return [sys.executable, "-c", _BOOT, json.dumps([str(folder.resolve()), mode, path])]


def main(folder: str, mode: str) -> None:
    """Follow a run's events to their end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(5 - os.nice(0))  # training comes first
    sys.argv[:] = ["gptkit"]  # what wandb takes for the program's name
    follower = Follower(Path(folder), mode)
    try:
        follower.follow()
    except Exception as error:
        follower.give_up(f"{type(error).__name__}: {error}")


class Follower:
    """Tells wandb what the events say.

    Args:
        folder: the `wandb` folder of a run.
        mode: `online` or `offline`.
    """

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder, self.mode = folder, mode
        self.events = Events(folder / EVENTS)
        self.begin = next(iter(self.events.read()))
        self.events.writer = self.begin["trainer"]
        self.run: Any = None
        self.step = self.known_step = -1

    def follow(self) -> None:
        """From the first event to the last."""
        if self.mode == "online":
            if why := unreachable(wandb_account.base_url()):
                self.give_up(why)
            threading.Thread(target=self._watch_start, daemon=True).start()
        self.run = self._start()
        if self.mode == "online":
            say(f"wandb: {self.run.url}")
        for event in self.events.follow():
            self._tell(event)
        self._finish()

    def give_up(self, why: str) -> None:
        """Go on offline, from the first event; or end, if that is what failed."""
        why = why.strip().split("\n", 1)[0]
        if self.mode == "offline":
            say(f"wandb is off ({why}); metrics.jsonl has all of it.")
            os._exit(1)
        pattern = self.folder / "offline-run-*"
        say(f"wandb: offline ({why}); to send this run: wandb sync {pattern}")
        os.environ.pop("WANDB_SERVICE", None)
        os.execv(sys.executable, command(self.folder, "offline", sys.path))

    def _start(self) -> Any:
        """wandb's run."""
        if self.mode == "offline":
            os.environ["WANDB_ERROR_REPORTING"] = "false"  # offline means that nothing is sent
        import wandb

        self._set_aside()
        begin = self.begin
        wanted = {
            "console": "off",
            "silent": True,
            "program": "gptkit",
            "init_timeout": 2 * begin["init_timeout"],  # `_watch_start` is sooner
            "finish_timeout": 0.9 * begin["finish_timeout"],
            "finish_timeout_raises": True,
            "x_stats_pid": begin["trainer"],
            "x_transaction_log_flush_interval": 5,
        }
        settings = wandb.Settings(**{k: v for k, v in wanted.items() if k in wandb.Settings.model_fields})
        about = {
            key: begin[key] for key in ("project", "entity", "name", "group", "job_type", "notes", "config")
        }
        run = wandb.init(
            **about,
            id=begin["id"],
            tags=begin["tags"] or None,
            dir=str(self.folder.parent),
            mode=self.mode,  # pyright: ignore[reportArgumentType]
            resume="allow" if self.mode == "online" else None,
            allow_val_change=True,
            settings=settings,
        )
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        if self.mode == "online" and run.resumed:
            self.known_step = int(run.summary.get("step", -1))
        return run

    def _set_aside(self) -> None:
        """Move away what an earlier part of the run kept offline: this one holds all of it as well."""
        for folder in self.folder.glob("offline-run-*"):
            (self.folder / "earlier").mkdir(exist_ok=True)
            folder.rename(self.folder / "earlier" / folder.name)

    def _watch_start(self) -> None:
        """Go offline when the server takes too long, the sooner if the run has already ended."""
        limit, ended = time.monotonic() + self.begin["init_timeout"], False
        while self.run is None:
            time.sleep(0.1)
            if not ended and self.events.ended():
                limit, ended = min(limit, time.monotonic() + LAST_CHANCE), True
            if time.monotonic() > limit and self.run is None:
                self.give_up(f"no answer from {wandb_account.base_url()}")

    def _tell(self, event: dict[str, Any]) -> None:
        """One event. What an online run had before it was resumed is there already."""
        self.step = event.get("step", self.step)
        if event["kind"] in {"metrics", "text"} and self.step <= self.known_step:
            return
        if event["kind"] == "metrics":
            self.run.log({**event["metrics"], "step": self.step})
        elif event["kind"] == "text":
            self._show(event["name"], _page(event["text"]), **{f"{event['name']}_text": event["text"]})
        elif event["kind"] == "image":
            try:
                self._show_picture(event["name"], Path(event["path"]))
            except Exception as error:  # a picture is no reason to lose the run
                say(f"wandb: {event['path']} cannot be shown ({type(error).__name__}: {error}).")
        elif event["kind"] == "table":
            self._show_table(event["name"], event["columns"], event["rows"])

    def _show_picture(self, name: str, path: Path) -> None:
        import wandb

        if path.suffix in {".svg", ".html"}:
            self._show(name, path.read_text("utf-8"))
        else:
            self.run.log({name: wandb.Image(str(path)), "step": self.step})

    def _show_table(self, name: str, columns: list[Any], rows: list[list[Any]]) -> None:
        import wandb

        told = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
        self.run.log({name: told, "step": self.step})

    def _show(self, name: str, page: str, **more: str) -> None:
        import wandb

        self.run.log({name: wandb.Html(page, inject=False), **more, "step": self.step})

    def _finish(self) -> None:
        """End the run, within its time even if nobody is left to watch."""
        limit = threading.Timer(self.begin["finish_timeout"], os._exit, [UNSENT])
        limit.daemon = True
        limit.start()
        result = self.events.result
        if result is not None:
            self.run.summary.update({key: value for key, value in result.items() if value is not None})
        well = result is not None and result.get("status") != "failed"
        try:
            self.run.finish(exit_code=0 if well else 1)
        except TimeoutError:
            os._exit(UNSENT)


class Events:
    """The events of a file that another process is still writing.

    Attributes:
        writer: that process.
        result: what the event `finish` said, once it has been read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.writer = path, os.getppid()
        self.result: dict[str, Any] | None = None
        self._at = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """Events that have come since the last time."""
        with self.path.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._at += len(line)
                event = decode(line)
                if event:
                    self.result = event["result"] if event["kind"] == "finish" else self.result
                    yield event

    def follow(self) -> Iterator[dict[str, Any]]:
        """Events as they come, up to `finish`, or until the process that writes them is gone."""
        while True:
            gone = self.ended()
            yield from self.read()
            if gone or self.result is not None:
                return
            select.select([0], [], [], POLL)

    def ended(self) -> bool:
        """Whether the training process has closed the pipe to this one, or is no more."""
        return bool(select.select([0], [], [], 0)[0]) or os.getppid() != self.writer


def unreachable(url: str) -> str:
    """Why nothing listens at an address; empty if something does, or a proxy stands before it."""
    parts = urlsplit(url)
    if urllib.request.getproxies().get(parts.scheme):
        return ""
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((host, port), timeout=LAST_CHANCE).close()
    except OSError as error:
        return f"{host}:{port} cannot be reached: {error.strerror or error}"
    return ""


def say(line: str) -> None:
    """Tell the user, if somebody still listens."""
    with contextlib.suppress(OSError, ValueError):
        os.write(1, f"{MESSAGE}{line}\n".encode())


def _page(text: str) -> str:
    """A sample as a page: its lines as they are, wrapped, in the colours of the reader's choice."""
    style = ":root{color-scheme:light dark}pre{white-space:pre-wrap;font:14px/1.5 ui-monospace,monospace}"
    return f"<!doctype html><meta charset=utf-8><style>{style}</style><pre>{html.escape(text)}</pre>"
