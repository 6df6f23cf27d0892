"""`gptkit components`: what can be swapped."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from gptkit import __version__, registry
from gptkit.cli.arguments import split_flags
from gptkit.cli.paper import Paper
from gptkit.errors import GptkitError, UserError, did_you_mean
from gptkit.registry import Component, Slot
from gptkit.schema import expected

SUMMARY = "what can be swapped: parts, their options, where they come from"
USAGE = """\
gptkit components [SLOT [NAME]] [--json]

  gptkit components                   every part of every slot, a line each
  gptkit components model.position    one slot: options, types and defaults
  gptkit components position rotary   one part: formula, source and options
"""


def run(args: list[str]) -> int:
    """List parts.

    Raises:
        UserError: there is no such slot or part.
    """
    flags, words = split_flags(args, ["--json"])
    words = [part for word in words for part in word.split("=", 1)]
    if len(words) > 2:
        raise UserError("gptkit components takes a slot and a name at most.")
    slot = slot_named(words[0]) if words else None
    chosen = [registry.find(slot, words[1])] if slot and len(words) == 2 else registry.components(slot)
    if "--json" in flags:
        print(json.dumps([described(component) for component in chosen], indent=2))
        return 0
    paper = Paper()
    if len(words) == 2:
        show_part(chosen[0], paper)
    elif slot:
        show_slot(registry.SLOTS[slot], chosen, paper)
    else:
        show_all(chosen, paper)
    return 0


def slot_named(word: str) -> str:
    """The slot that a word means: in full, with slashes, or its last part.

    Raises:
        UserError: none, or several.
    """
    plain = word.replace("/", ".")
    matches = [name for name in registry.SLOTS if name == plain] or [
        name for name in registry.SLOTS if name.rsplit(".", 1)[-1] == plain
    ]
    if len(matches) == 1:
        return matches[0]
    known = [*registry.SLOTS, *(name.rsplit(".", 1)[-1] for name in registry.SLOTS)]
    raise UserError(
        f"There is no slot {word!r}. {did_you_mean(plain, known) or 'Slots: ' + ', '.join(registry.SLOTS) + '.'}"
    )


def described(component: Component) -> dict[str, Any]:
    """A part as plain data."""
    origin = component.origin
    version = __version__ if origin.kind == "core" else origin.version
    found: dict[str, Any] = {
        "slot": component.slot,
        "name": component.name,
        "origin": {"kind": origin.kind, "package": origin.package, "version": version},
    }
    try:
        declared = component.declaration
    except GptkitError as error:
        return {**found, "error": str(error)}
    options = [
        {
            "name": option.name,
            "type": option.annotation,
            "required": option.required,
            "default": None if option.required else option.default,
            "help": option.help,
        }
        for option in declared.options
    ]
    return {**found, "summary": declared.summary, "doc": declared.doc, "options": options}


def show_all(components: list[Component], paper: Paper) -> None:
    """A line for each part, slot by slot."""
    slot, wide = "", 0
    for component in components:
        if component.slot != slot:
            slot = component.slot
            wide = max(len(other.name) for other in components if other.slot == slot)
            paper.line()
            paper.cut((slot, "bold"), (f"  {registry.SLOTS[slot].summary}", "dim"))
        told, origin = described(component), component.origin
        style = "" if "summary" in told else "red"
        paper.cut(
            (f"  {component.name:<{wide}}", "cyan"),
            (f"  {told.get('summary') or told.get('error', '')}", style),
            end=(f"  {'core' if origin.kind == 'core' else origin.package}", "dim"),
        )
    paper.line()
    paper.line(("gptkit components SLOT shows options; gptkit components SLOT NAME one part.", "dim"))


def show_slot(slot: Slot, components: list[Component], paper: Paper) -> None:
    """The parts of a slot with their options."""
    paper.line((slot.name, "bold"), (f"  {slot.summary}", "dim"))
    for component in components:
        told = described(component)
        paper.line()
        paper.line((f"  {component.name}", "bold cyan"), (f"  {brief_origin(component)}", "dim"))
        paper.wrapped(told.get("summary") or told.get("error", ""), indent=4)
        _show_options(component, paper, indent=4)
    paper.line()
    words = f"{slot.group}={components[-1].name}" if components else f"{slot.group}=NAME"
    more = f"; +{words} adds to what is there" if slot.many else ""
    paper.line((f"gptkit train {words} chooses{more}.", "dim"))


def show_part(component: Component, paper: Paper) -> None:
    """Everything about one part.

    Raises:
        PluginError: its source cannot be read.
    """
    declared, slot = component.declaration, registry.SLOTS[component.slot]
    paper.line((f"{component.slot}={component.name}", "bold"), (f"  {component.origin}", "dim"))
    paper.line()
    for block in _paragraphs(declared.doc):
        paper.wrapped(block, indent=2) if not block.startswith(" ") else paper.line((block, ""))
        paper.line()
    if declared.options:
        paper.line(("Options", "bold"))
        _show_options(component, paper, indent=2)
        paper.line()
    paper.line(("Choose it  ", "dim"), (f"gptkit train {slot.group}={component.name}", "cyan"))
    for option in declared.options[:1]:
        key = f"{slot.name}.{component.name}" if slot.many else slot.name
        paper.line(("Set it     ", "dim"), (f"{key}.{option.name}=…", "cyan"))
    paper.line(("Source     ", "dim"), (f"{declared.path}:{declared.line}", ""))


def brief_origin(component: Component) -> str:
    """Where a part comes from, in few words."""
    origin = component.origin
    return "core" if origin.kind == "core" else f"{origin.package} {origin.version}".strip()


def _show_options(component: Component, paper: Paper, indent: int) -> None:
    try:
        options = component.declaration.options
    except GptkitError:
        return
    for option in options:
        value = "needed" if option.required else json.dumps(option.default)
        told = f" = {value}" if not option.required else " (must be given)"
        paper.line(
            (f"{'':{indent}}{option.name}", "cyan"), (told, "bold"), (f"   {expected(option.type)}", "dim")
        )
        paper.wrapped(option.help, indent=indent + 4)


def _paragraphs(doc: str) -> Iterator[str]:
    """A docstring without its `Args:`, paragraph by paragraph; indented blocks stay as they are."""
    text = re.split(r"^Args:$", doc, maxsplit=1, flags=re.MULTILINE)[0]
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        yield from _blocks(lines)


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    together: list[str] = []
    for line in lines:
        if line.startswith("  "):
            if together:
                yield " ".join(together)
                together = []
            yield textwrap.indent(line.rstrip(), "  ")
        else:
            together.append(line.strip())
    if together:
        yield " ".join(together)
