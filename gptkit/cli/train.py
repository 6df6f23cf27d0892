"""`gptkit train`: compose, check, and train a run to its end."""

from __future__ import annotations

import sys
from typing import Any

from gptkit.cli.arguments import split_flags, take_key
from gptkit.errors import RunError

SUMMARY = "compose a GPT and train it; or go on with a run"
USAGE = """\
gptkit train [key=value ...] [-q] [--dry-run] [--config-dir DIR]
gptkit train resume=latest [trainer.max_steps=4000]

  gptkit train                                      a small GPT on carried text, about a minute
  gptkit train position=rotary model.n_heads=8      swap a part, set a value
  gptkit train model=gpt2 tokenizer=gpt2 data=text data.path=my.txt
  gptkit train trainer=fsdp devices=2               several devices: auto, ddp or fsdp
  gptkit train config=my.yaml                       choices from a file

  -q               show notices alone
  --dry-run        compose and check, and print the config
  --config-dir     a folder with more YAML, laid out as conf/; ./conf is found by itself
"""


def run(args: list[str]) -> int:
    """Train; returns the exit code.

    Raises:
        UserError: the words do not make a config, or the run cannot go on with them.
    """
    flags, words = split_flags(args, ["-q", "--quiet", "--dry-run", "--json"], ["--config-dir"])
    resume, words = take_key(words, "resume")
    quiet = "-q" in flags or "--quiet" in flags
    if resume is not None:
        return go_on(resume, words, quiet=quiet)
    from gptkit.compose import compose, expand

    config = compose(words, config_dir=flags.get("--config-dir"))
    if "--dry-run" in flags:
        from gptkit.cli.config import show_config

        show_config(config, as_json="--json" in flags)
        return 0
    from gptkit import run as runs
    from gptkit.train.launch import devices, launch, shared

    devices(config)  # what is not there is told before a folder is made
    full = expand(words, config_dir=flags.get("--config-dir"))
    made = shared(lambda: runs.create(config, full))
    return finish(made, launch(made, quiet=quiet), quiet=quiet)


def finish(run: Any, code: int, *, quiet: bool = False) -> int:
    """Show what came of a run, once, in the first process; returns its exit code."""
    from gptkit.train.world import World

    if code == 0 and World.of().is_first and not quiet:
        from gptkit.train.sample import last_sample
        from gptkit.train.summary import summary

        summary(run.result() or {}, last_sample(run.path), run.path)
    return code


def go_on(spec: str, words: list[str], *, quiet: bool = False) -> int:
    """Go on with a run from its newest checkpoint; keys of the trainer and loggers may change.

    Raises:
        RunError: there is no such run, it is finished, or a word would change what was trained.
    """
    from gptkit import run as runs
    from gptkit.compose import compose
    from gptkit.train.launch import launch, shared
    from gptkit.train.resume import reconfigure

    root, words = take_key(words, "run_root")
    found = runs.find(spec, root or "runs")
    before = found.config()
    if not words and (found.result() or {}).get("status") == "finished":
        raise RunError(
            f"{found.path} is finished: it took all {before['trainer']['max_steps']} steps. "
            f"To train longer, add trainer.max_steps={2 * before['trainer']['max_steps']}."
        )
    after = compose([f"config={found.path / runs.CONFIG}", *words]) if words else before

    def take_up() -> Any:
        if after != before:
            reconfigure(found, after)
        return found

    print(f"Going on with {found.path}", file=sys.stderr)
    made = shared(take_up)
    return finish(made, launch(made, quiet=quiet), quiet=quiet)
