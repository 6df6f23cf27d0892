"""`gptkit new plugin`: a part of one's own, with a test that passes at once."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from gptkit import registry
from gptkit.cli.arguments import split_flags, take_key
from gptkit.cli.components import slot_named
from gptkit.cli.scaffolds import SCAFFOLDS
from gptkit.errors import UserError, did_you_mean

SUMMARY = "write a plugin to start from"
USAGE = """\
gptkit new plugin NAME slot=model.position

Writes plugins/NAME/: the part, its YAML, a test and a README. It trains, and its test passes, at once.

  gptkit new plugin tilt slot=model.position
  gptkit train position=tilt
  pytest plugins/tilt
"""
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"

[project]
name = "gptkit-$dashed"
version = "0.1.0"
description = "A $slot for gptkit."
readme = "README.md"
requires-python = ">=3.10"
dependencies = ["gptkit"]

[project.entry-points."gptkit.$slot"]
$name = "gptkit_$name:$cls"

[tool.hatch.build.targets.wheel]
packages = ["gptkit_$name"]

[tool.hatch.build.targets.wheel.force-include]
"conf" = "gptkit_$name/conf"
"""
_README = """\
# gptkit-$dashed

A `$slot` for gptkit.

```bash
gptkit train $group=$name
gptkit components $slot $name
pytest plugins/$name
```
"""


def run(args: list[str]) -> int:
    """Write the plugin.

    Raises:
        UserError: the name or slot will not do, or the folder is there already.
    """
    _, words = split_flags(args, [])
    wanted, words = take_key(words, "slot")
    if words[:1] != ["plugin"] or len(words) != 2 or wanted is None:
        raise UserError("Write: gptkit new plugin NAME slot=model.position")
    slot, name = slot_named(wanted), words[1]
    check_name(slot, name)
    if slot not in SCAFFOLDS:
        known = ", ".join(SCAFFOLDS)
        raise UserError(
            f"There is no scaffold for {slot}. {did_you_mean(slot, SCAFFOLDS)} There is one for: {known}."
        )
    folder = write(slot, name)
    group = registry.SLOTS[slot].group
    print(f"{folder}: a {slot} named {name}.\nTry: gptkit train {group}={name}\n     pytest {folder}")
    return 0


def check_name(slot: str, name: str) -> None:
    """Refuse a name that cannot serve as a word, a package and a file, or that is taken.

    Raises:
        UserError: it cannot.
    """
    if not _NAME.match(name):
        raise UserError(
            f"{name!r} cannot name a plugin: use lower case letters, digits and _, such as my_part."
        )
    if name in registry.names(slot):
        raise UserError(f"{slot}={name} is taken by {registry.find(slot, name).origin}. Choose another name.")


def write(slot: str, name: str) -> Path:
    """Write `plugins/NAME`; returns the folder.

    Raises:
        UserError: it is there already.
    """
    folder = Path("plugins") / name
    if folder.exists():
        raise UserError(f"{folder} is there already; nothing was written.")
    told = SCAFFOLDS[slot]
    group = registry.SLOTS[slot].group
    words = {
        "name": name, "dashed": name.replace("_", "-"), "slot": slot, "group": group,
        "cls": "".join(part.capitalize() for part in name.split("_")),
    }  # fmt: skip
    texts = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        f"gptkit_{name}/__init__.py": told.part,
        f"conf/{group}/{name}.yaml": told.yaml,
        f"tests/test_{name}.py": told.test,
    }
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(Template(text).substitute(words), "utf-8")
    registry.refresh()
    return folder
