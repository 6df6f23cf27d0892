"""Jobs on other machines or in other pools, through one of Hydra's launcher plugins.

A launcher calls a function in processes of its own. Here that function starts a job as always, from the run
directory that was made for it, and waits for its end. What a launcher cannot tell while it works goes by
files in the run directory: `job.begun` is there once a job has begun, `job.exit` holds how it ended, and
`job.stop` the signal that it is to be sent.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptkit.compare.launcher import Launcher, hydra_config
from gptkit.compare.processes import Process, Scratch

BEGUN, EXIT, STOP = "job.begun", "job.exit", "job.stop"
_POLL_SECONDS = 0.2

Order = tuple[Sequence[str], str, str]  # the arguments of a job, its log, and the folder that it works in


class Launched:
    """Starts jobs through a launcher, those that were asked for together as one batch.

    Args:
        launcher: which.
        folder: the sweep's; what the launcher itself writes goes to `launcher/` in it.
    """

    def __init__(self, launcher: Launcher, folder: Path) -> None:
        self.launcher, self.folder = launcher, Path(folder).resolve() / "launcher"
        self._orders: list[Order] = []
        self._batch = _Batch()
        self._count = 0

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Ask for a job; it begins after `flush`. What it may use is the launcher's to say."""
        place = Path(arguments[0])
        for name in (BEGUN, EXIT, STOP):
            (place / name).unlink(missing_ok=True)
        self._orders.append((list(arguments), str(log.resolve()), os.getcwd()))
        return _Remote(place, log, self._batch)

    def flush(self) -> None:
        """Hand over all that was asked for since."""
        if self._orders:
            orders, batch, first = self._orders, self._batch, self._count
            self._orders, self._batch, self._count = [], _Batch(), self._count + len(orders)
            hydra = hydra_config(
                self.launcher, self.folder
            )  # here, for a thread must not touch Hydra's state
            threading.Thread(target=_launch, args=(hydra, orders, first, batch), daemon=True).start()


@dataclass
class _Batch:
    """Jobs that were handed over together; `error` tells why the launcher gave up."""

    over: bool = False
    error: str = ""


class _Remote:
    """A job that a launcher starts."""

    def __init__(self, place: Path, log: Path, batch: _Batch) -> None:
        self.place, self.log, self.batch = place, log, batch
        self._withdrawn = False

    def poll(self) -> int | None:
        over = self.batch.over  # before the file is looked for
        with contextlib.suppress(OSError, ValueError):
            return int((self.place / EXIT).read_text())
        if self._withdrawn:
            return 128 + signal.SIGINT
        if not over:
            return None
        with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8") as file:
            file.write(f"{self.batch.error or 'The launcher ended without it.'}\n")
        return 1

    def send(self, number: int) -> None:
        """Leave word of a signal; a job that still waits its turn then never begins."""
        with contextlib.suppress(OSError):
            (self.place / STOP).write_text(str(number))
        self._withdrawn = not (self.place / BEGUN).exists()


def _launch(hydra: tuple[Any, Any], orders: list[Order], first: int, batch: _Batch) -> None:
    """Have the launcher do a batch, and wait for all of it."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.core.utils import setup_globals
    from hydra.types import HydraContext

    loader, config = hydra
    try:
        setup_globals()
        made = Plugins.instance().instantiate_launcher(
            config=config,
            hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks()),
            task_function=functools.partial(work, orders),
        )
        made.launch([[f"+job={number}"] for number in range(len(orders))], initial_job_idx=first)
    except Exception as error:
        batch.error = f"The launcher gave up: {type(error).__name__}: {error}"
    finally:
        batch.over = True


def work(orders: Sequence[Order], config: Any) -> int:
    """In a process of the launcher's: do one job in a process of its own; returns its exit code.

    Args:
        orders: of the batch.
        config: `job` tells which of them.
    """
    arguments, log, folder = orders[config["job"]]
    place = Path(arguments[0])
    os.chdir(folder)
    with contextlib.suppress(ValueError):  # Ctrl-C reaches the whole group; the sweep itself passes it on
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = 128 + signal.SIGINT
    (place / BEGUN).touch()
    if not (place / STOP).exists():
        process = Scratch().start(arguments, {}, Path(log))
        sent = 0
        while (found := process.poll()) is None:
            asked = _asked(place)
            if asked not in (0, sent):
                sent = asked
                process.send(asked)
            time.sleep(_POLL_SECONDS)
        code = found
    draft = place / f".{EXIT}"
    draft.write_text(str(code))
    draft.replace(place / EXIT)
    return code


def _asked(place: Path) -> int:
    """The signal that the job is to be sent; 0 for none."""
    try:
        number = int((place / STOP).read_text())
    except (OSError, ValueError):
        return 0
    return number if number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL) else 0
