"""`gptkit new plugin`: a part of one's own, with a test that passes at once."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from pathlib import Path
from string import Template

from gptkit import registry
from gptkit.cli.arguments import split_flags, take_key
from gptkit.cli.components import slot_named
from gptkit.composing import yaml_file
from gptkit.errors import UserError
from gptkit.signature import Declaration, read_declarations

SUMMARY = "write a plugin to start from, with a test that passes at once"
USAGE = """\
gptkit new plugin NAME slot=model.position

Writes plugins/NAME/: the part, its YAML, a test and a README. It trains, and
its test passes, at once. There is one to start from for every slot; gptkit
components lists them. Nothing that is there is overwritten.

  gptkit new plugin tilt slot=model.position
  gptkit train position=tilt
  pytest plugins/tilt        pytest comes with gptkit[testing]
"""
TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_NO_NAMES = frozenset({"null", "true", "false", "nan", "inf", "name", "none"})


def run(args: list[str]) -> int:
    """Write the plugin.

    Raises:
        UserError: the name or slot will not do, or the folder is there already.
    """
    _, words = split_flags(args, [])
    wanted, words = take_key(words, "slot")
    if words[:1] != ["plugin"] or len(words) != 2 or not wanted:
        raise UserError(f"{_amiss(words, wanted)} Write: gptkit new plugin NAME slot=model.position")
    slot, name = slot_named(wanted), words[1]
    check_name(slot, name)
    folder = write(slot, name)
    registry.refresh()
    group = registry.SLOTS[slot].group
    choose = f"+{group}={name}" if slot in {"logger", "callback"} else f"{group}={name}"
    print(f"{folder}/ holds {slot}={name}.")
    print(f"Try: gptkit train {choose}\n     pytest {folder}")
    return 0


def _amiss(words: list[str], slot: str | None) -> str:
    """What is wrong with the words."""
    told = []
    if words and words[0] != "plugin":
        told.append(f"{words[0]!r} cannot be written, only a plugin.")
    if len(words) < 2:
        told.append("A name is missing.")
    if len(words) > 2:
        told.append(f"{' '.join(words[2:])!r} is too much.")
    if not slot:
        told.append("A slot is missing.")
    return " ".join(told)


def check_name(slot: str, name: str) -> None:
    """Refuse a name that cannot serve as a word, a package and a file, or that is taken.

    Raises:
        UserError: it cannot.
    """
    if not _NAME.match(name) or name in _NO_NAMES:
        raise UserError(
            f"{name!r} cannot name a part: use lower case letters, digits and _, such as my_part."
        )
    if name in registry.names(slot):
        raise UserError(f"{slot}={name} is taken by {registry.find(slot, name).origin}. Choose another name.")


def write(slot: str, name: str) -> Path:
    """Write `plugins/NAME`, whole or not at all; returns the folder.

    Raises:
        UserError: it is there already, or cannot be written.
    """
    folder = Path("plugins") / name
    if folder.exists() or folder.with_suffix(".py").exists():
        raise UserError(f"{folder} is there already; nothing was written.")
    draft = folder.with_name(f".{name}-{secrets.token_hex(4)}")
    try:
        for path, text in contents(slot, name).items():
            (draft / path).parent.mkdir(parents=True, exist_ok=True)
            (draft / path).write_text(text, "utf-8")
        draft.rename(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error
    return folder


def contents(slot: str, name: str) -> dict[str, str]:
    """What the plugin's files say, by path."""
    group, own = registry.SLOTS[slot].group, TEMPLATES / slot
    words = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "slot": slot,
        "group": group,
        "key": f"{slot}.{name}" if registry.SLOTS[slot].many else slot,
        "cls": "".join(part.capitalize() for part in name.split("_")),
    }

    def filled(path: Path, **more: str) -> str:
        return Template(path.read_text("utf-8")).substitute(words, **more)

    part = filled(own / "part.txt")
    declared = _declared(slot, name, part)
    test = own / "test.txt"
    rows = [f"| `{o.name}` | {json.dumps(o.default)} | {o.help.rstrip('.')} |" for o in declared.options]
    return {
        "pyproject.toml": filled(TEMPLATES / "pyproject.txt"),
        "README.md": filled(TEMPLATES / "readme.txt", summary=declared.summary, options="\n".join(rows)),
        f"gptkit_{name}/__init__.py": part,
        f"conf/{group}/{name}.yaml": _yaml(slot, declared),
        "tests/conftest.py": filled(TEMPLATES / "conftest.txt"),
        f"tests/test_{name}.py": filled(test if test.is_file() else TEMPLATES / "trains.txt"),
    }


def _declared(slot: str, name: str, source: str) -> Declaration:
    """The part as its source declares it."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.py"
        path.write_text(source, "utf-8")
        return next(d for d in read_declarations(path) if (d.slot, d.name) == (slot, name))


def _yaml(slot: str, declared: Declaration) -> str:
    """The part's YAML: every option with its default and what it means."""
    many = registry.SLOTS[slot].many
    lines = [f"{declared.name}:" if many else f"name: {declared.name}"]
    for option in declared.options:
        value = yaml_file.dump({option.name: option.default}).strip()
        if isinstance(option.default, list):
            value = f"{option.name}: {json.dumps(option.default)}"
        lines.append(f"{'  ' if many else ''}{value}  # {option.help.rstrip('.')}")
    return "\n".join(lines) + "\n"
