"""`gptkit train`: compose, check, and train a run to its end."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

from gptkit.cli.arguments import split_flags, take_key
from gptkit.errors import RunError

if TYPE_CHECKING:
    from gptkit.run import Run

SUMMARY = "compose a GPT and train it; or go on with a run"
USAGE = """\
gptkit train [key=value ...] [-q] [--dry-run] [--json] [--config-dir DIR]
gptkit train resume=latest [trainer.max_steps=4000]

  gptkit train                                  a small GPT, about a minute
  gptkit train position=rotary model.n_heads=8  swap a part, set a value
  gptkit train model=gpt2 tokenizer=gpt2 data=text data.path=my.txt
  gptkit train trainer=fsdp devices=2           several devices; or ddp, auto
  gptkit train logger=[csv,tensorboard] +callback=early_stop
  gptkit train config=my.yaml                   from a file, or a run's folder
  gptkit train resume=latest                    go on where the newest stopped

  -q, --quiet       show notices alone
  --dry-run         compose and check, and print the config
  --json            print the result, or with --dry-run the config, as JSON
  --config-dir DIR  a folder with more YAML, laid out as conf/; ./conf is found
                    by itself

What can be chosen: gptkit components.
What a choice leads to: gptkit config show, gptkit show.
"""


def run(args: list[str]) -> int:
    """Train; returns the exit code.

    Raises:
        UserError: the words do not make a config, or the run cannot go on with them.
    """
    flags, words = split_flags(args, ["-q", "--quiet", "--dry-run", "--json"], ["--config-dir"])
    quiet, as_json = "-q" in flags or "--quiet" in flags, "--json" in flags
    resume, words = take_key(words, "resume")
    folder = flags.get("--config-dir")
    if "--dry-run" in flags:
        from gptkit.cli.config import show_config

        fresh = resume is None
        config = _composed(words, folder) if fresh else _again(resume, words, folder)[1]
        show_config(config, as_json=as_json)
        return 0
    from gptkit.train.launch import launch, shared

    made = shared(lambda: _start(words, folder) if resume is None else _go_on(resume, words, folder))
    if not quiet and _is_first():
        print(f"{'Training' if resume is None else 'Going on with'} {made.path}", file=sys.stderr)
    code = launch(made, quiet=quiet)
    if code == 0 and _is_first():
        _finish(made, quiet=quiet, as_json=as_json)
    return code


def _composed(words: list[str], config_dir: str | None) -> dict[str, Any]:
    from gptkit.compose import compose

    return compose(words, config_dir=config_dir)


def _start(words: list[str], config_dir: str | None) -> Run:
    """A new run."""
    from gptkit import run as runs
    from gptkit.compose import expand
    from gptkit.train.launch import devices
    from gptkit.train.preflight import preflight

    config = _composed(words, config_dir)
    devices(config)  # what is not there, or does not fit, is told before a folder is made
    preflight(config)
    return runs.create(config, expand(words, config_dir=config_dir))


def _again(spec: str, words: list[str], config_dir: str | None) -> tuple[Run, dict[str, Any]]:
    """The run that is meant, and the config to go on with.

    Raises:
        RunError: there is no such run, it is being trained, or it is finished and no word says more.
    """
    from gptkit import run as runs

    root, words = take_key(words, "run_root")
    found = _found(spec, root or "runs")
    before = found.config()
    if found.status == "running":
        raise RunError(f"{found.path} is being trained by another process.")
    if not words and found.status == "finished":
        steps = before["trainer"]["max_steps"]
        raise RunError(
            f"{found.path} is finished: it took all {steps} steps. To train longer, add trainer.max_steps={2 * steps}."
        )
    config = str(found.path / runs.CONFIG)
    return found, _composed([f"config={config}", *words], config_dir) if words else before


def _found(spec: str, root: str) -> Run:
    """The run that is meant; `latest` passes over those that failed before they held anything."""
    from gptkit import run as runs

    if spec == runs.LATEST:
        with contextlib.suppress(RunError):
            return runs.find(spec, root, loadable=True)
    return runs.find(spec, root)


def _go_on(spec: str, words: list[str], config_dir: str | None) -> Run:
    """A run that was there, with the keys changed that may change.

    Raises:
        RunError: it cannot be gone on with.
        ConfigError: a word would change what was trained; names the key.
    """
    from gptkit import run as runs
    from gptkit.train.resume import reconfigure

    found, config = _again(spec, words, config_dir)
    if config != found.config():
        reconfigure(found, config)
        with (found.path / runs.OVERRIDES).open("a", encoding="utf-8") as record:
            record.writelines(f"{word}\n" for word in (f"resume={found.name}", *words))
    return found


def _is_first() -> bool:
    from gptkit.train.world import World

    return World.of().is_first


def _finish(run: Run, *, quiet: bool, as_json: bool) -> None:
    """Show what came of a run."""
    result = run.result() or {}
    if as_json:
        print(json.dumps({**result, "path": str(run.path)}, indent=2))
    elif not quiet:
        from gptkit.train.sample import last_sample
        from gptkit.train.summary import summary

        summary(result, last_sample(run.path), run.path)
