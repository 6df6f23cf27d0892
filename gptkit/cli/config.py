"""`gptkit config`: show, check and compare configs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptkit.cli.arguments import split_flags
from gptkit.errors import UserError, did_you_mean

SUMMARY = "show, check or compare configs"
USAGE = """\
gptkit config show [key=value ...] [--json]
gptkit config validate [key=value ...] [FILE.yaml]
gptkit config diff A B

  gptkit config show model=gpt2 position=rotary
  gptkit config validate my.yaml
  gptkit config diff model=nano model=gpt2           two sets of words, files or runs;
  gptkit config diff runs/A runs/B                   quote several words: "model=gpt2 position=rotary"
"""
_ACTIONS = ("show", "validate", "diff")


def run(args: list[str]) -> int:
    """Do what the first word says.

    Raises:
        UserError: it says nothing known, or a config cannot be composed.
    """
    flags, words = split_flags(args, ["--json"], ["--config-dir"])
    action = words.pop(0) if words else "show"
    if "=" in action:
        action, words = "show", [action, *words]
    folder = flags.get("--config-dir")
    if action == "show":
        show_config(read(words, folder), as_json="--json" in flags)
    elif action == "validate":
        read(words, folder)
        print("The config can be built.")
    elif action == "diff":
        if len(words) != 2:
            raise UserError("gptkit config diff takes two: words in quotes, YAML files, or runs.")
        return difference(*(flat(read(word.split(), folder)) for word in words), as_json="--json" in flags)
    else:
        raise UserError(
            f"gptkit config {action}: {did_you_mean(action, _ACTIONS) or 'one of ' + ', '.join(_ACTIONS)}"
        )
    return 0


def read(words: list[str], config_dir: str | None = None) -> dict[str, Any]:
    """A config from words, from a YAML file, or from a run."""
    from gptkit.compose import compose

    if len(words) == 1 and "=" not in words[0]:
        if Path(words[0]).suffix in {".yaml", ".yml", ".json"}:
            return compose([f"config={words[0]}"], config_dir=config_dir)
        from gptkit import run as runs

        return runs.find(words[0]).config()
    return compose(words, config_dir=config_dir)


def show_config(config: Mapping[str, Any], *, as_json: bool = False) -> None:
    """Print a config as YAML, coloured on a terminal, or as JSON."""
    if as_json:
        print(json.dumps(config, indent=2, ensure_ascii=False))
        return
    import yaml

    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    if not sys.stdout.isatty():
        print(text, end="")
        return
    from rich.console import Console
    from rich.syntax import Syntax

    Console().print(Syntax(text, "yaml", background_color="default"))


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


def difference(one: dict[str, Any], other: dict[str, Any], *, as_json: bool = False) -> int:
    """Print the keys that differ; returns 0 whether any does or not."""
    keys = [
        key for key in [*one, *(k for k in other if k not in one)] if one.get(key, "–") != other.get(key, "–")
    ]
    if as_json:
        print(json.dumps({key: [one.get(key), other.get(key)] for key in keys}))
        return 0
    if not keys:
        print("The two are the same.")
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("key", "first", "second"):
        table.add_column(column, overflow="fold")
    for key in keys:
        table.add_row(key, *(str(side.get(key, "–")) for side in (one, other)))
    Console().print(table)
    return 0
