"""`gptkit config`: show, check and compare configs."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptkit.cli.arguments import split_flags
from gptkit.cli.paper import Paper, coloured
from gptkit.errors import UserError, did_you_mean

SUMMARY = "show, check or compare configs"
USAGE = """\
gptkit config show [key=value ...] [--json] [--config-dir DIR]
gptkit config validate [key=value ...] [FILE.yaml]
gptkit config diff A B [--json]

  gptkit config show model=gpt2 position=rotary  every key, resolved; as YAML
                                                 that config=FILE takes back
  gptkit config show latest                      what a run was trained with
  gptkit config validate my.yaml                 all that is wrong; exits with 2
  gptkit config diff model=nano model=gpt2       two of words, files, runs
  gptkit config diff latest "model=gpt2 seed=2"  quote several words
"""
_ACTIONS = ("show", "validate", "diff")
_NOTHING = "–"


def run(args: list[str]) -> int:
    """Do what the first word says.

    Raises:
        UserError: it says nothing known, or a config cannot be composed.
    """
    flags, words = split_flags(args, ["--json"], ["--config-dir"])
    action = (
        words.pop(0) if words and words[0] in _ACTIONS else "show" if not words or "=" in words[0] else ""
    )
    folder = flags.get("--config-dir")
    if not action:
        meant = did_you_mean(words[0], _ACTIONS) or f"It takes one of {', '.join(_ACTIONS)}."
        raise UserError(f"gptkit config {words[0]}: no such action. {meant}")
    if action == "show":
        show_config(read(words, folder), as_json="--json" in flags)
    elif action == "validate":
        from gptkit.train.preflight import preflight

        preflight(read(words, folder), read_text=False)
        print("The config can be built.")
    else:
        if len(words) != 2:
            raise UserError("gptkit config diff takes two: words in quotes, YAML files, or runs.")
        one, other = (flat(read(shlex.split(word), folder)) for word in words)
        difference(one, other, as_json="--json" in flags)
    return 0


def read(words: Sequence[str], config_dir: str | None = None) -> dict[str, Any]:
    """A config from words, from a YAML file with further words, or from a run.

    Raises:
        ConfigError: it cannot be composed; carries every problem.
        RunError: there is no such run.
    """
    from gptkit.compose import compose

    if words and Path(words[0]).suffix in {".yaml", ".yml", ".json"} and "=" not in words[0]:
        return compose([f"config={words[0]}", *words[1:]], config_dir=config_dir)
    if len(words) == 1 and "=" not in words[0]:
        from gptkit import run as runs

        return runs.find(words[0]).config()
    return compose(words, config_dir=config_dir)


def show_config(config: Mapping[str, Any], *, as_json: bool = False) -> None:
    """Print a config as YAML, coloured on a terminal, or as JSON."""
    if as_json:
        print(json.dumps(config, indent=2, ensure_ascii=False))
        return
    from gptkit.composing.yaml_file import dump

    text = dump(dict(config))
    if not coloured(sys.stdout):
        print(text, end="")
        return
    from rich.console import Console
    from rich.syntax import Syntax

    painted = Syntax("", "yaml", theme="ansi_dark", background_color="default").highlight(text)
    Console().print(painted, end="", soft_wrap=True)  # whole, however long a line is


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config as full keys and values."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping) and value:
            found.update(flat(value, key))
        else:
            found[key] = value
    return found


def difference(one: Mapping[str, Any], other: Mapping[str, Any], *, as_json: bool = False) -> None:
    """Print the keys that differ, with both values; a key that only one has is told as –."""
    keys = [key for key in dict.fromkeys((*one, *other)) if _shown(one, key) != _shown(other, key)]
    if as_json:
        print(json.dumps({key: [one.get(key), other.get(key)] for key in keys}, indent=2, ensure_ascii=False))
        return
    paper = Paper()
    if not keys:
        paper.line(("The two are the same.", ""))
        return
    wide = max(map(len, keys))
    first = max(len(_shown(one, key)) for key in keys)
    for key in keys:
        before, after = _shown(one, key), _shown(other, key)
        paper.line(
            (f"{key:<{wide}}  ", ""), (f"{before:<{first}}", "red"), ("  →  ", "dim"), (after, "green")
        )


def _shown(side: Mapping[str, Any], key: str) -> str:
    return json.dumps(side[key], ensure_ascii=False) if key in side else _NOTHING
