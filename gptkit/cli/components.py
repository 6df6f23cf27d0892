"""`gptkit components`: what can be swapped."""

from __future__ import annotations

import json
from typing import Any

from gptkit import registry
from gptkit.cli.arguments import split_flags
from gptkit.errors import GptkitError, UserError, did_you_mean
from gptkit.registry import Component

SUMMARY = "what can be swapped: parts, their options, where they come from"
USAGE = """\
gptkit components [SLOT [NAME]] [--json]

  gptkit components                         every part of every slot, a line each
  gptkit components model.position          one slot, with options, types and defaults
  gptkit components position rotary         one part: its formula, source and options
"""


def run(args: list[str]) -> int:
    """List parts.

    Raises:
        UserError: there is no such slot or part.
    """
    flags, words = split_flags(args, ["--json"])
    if len(words) > 2:
        raise UserError("gptkit components takes a slot and a name at most.")
    slot = slot_named(words[0]) if words else None
    chosen = [registry.find(slot, words[1])] if slot and len(words) == 2 else registry.components(slot)
    if "--json" in flags:
        print(json.dumps([described(component) for component in chosen], indent=2))
    elif len(words) == 2:
        show_one(chosen[0])
    else:
        show_all(chosen, options=slot is not None)
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
        f"There is no slot {word!r}. {did_you_mean(plain, known) or 'Slots: ' + ', '.join(registry.SLOTS)}"
    )


def described(component: Component) -> dict[str, Any]:
    """A part as plain data."""
    origin = component.origin
    found: dict[str, Any] = {
        "slot": component.slot,
        "name": component.name,
        "origin": {"kind": origin.kind, "package": origin.package, "version": origin.version},
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
    return {**found, "summary": declared.summary, "options": options}


def origin_of(component: Component) -> str:
    """Where a part comes from, in few words."""
    origin = component.origin
    return "core" if origin.kind == "core" else f"{origin.package} {origin.version}".strip()


def show_all(components: list[Component], *, options: bool) -> None:
    """A table that fits 80 columns."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    slot = None
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(no_wrap=True, style="dim")
    for component in components:
        if component.slot != slot:
            slot = component.slot
            table.add_row("", "", "")
            table.add_row(f"[bold]{slot}[/]", f"[dim]{escape(registry.SLOTS[slot].summary)}[/]", "")
        told = described(component)
        lines = escape(told.get("summary") or told.get("error", ""))
        if options:
            lines += "".join(
                f"\n[cyan]{o['name']}[/] [dim]{escape(_default(o))}[/]" for o in told.get("options", [])
            )
        table.add_row(f"  {component.name}", lines, origin_of(component))
    console.print(table)
    if not options:
        console.print("\n[dim]gptkit components SLOT shows options, gptkit components SLOT NAME one part.[/]")


def _default(option: dict[str, Any]) -> str:
    value = "needed" if option["required"] else json.dumps(option["default"])
    return f"{option['type']} = {value}"


def show_one(component: Component) -> None:
    """Everything about one part."""
    from rich.console import Console
    from rich.markup import escape

    declared = component.declaration
    console = Console(highlight=False)
    console.print(f"[bold]{component.slot}={component.name}[/]  [dim]{escape(str(component.origin))}[/]\n")
    console.print(escape(declared.doc.split("Args:")[0].strip()))
    if declared.options:
        console.print("\n[bold]Options[/]")
    for option in described(component)["options"]:
        console.print(f"  [cyan]{option['name']}[/]: {escape(_default(option))}")
        console.print(f"      {escape(option['help'])}")
    group = registry.SLOTS[component.slot].group
    console.print(
        f"\nChoose it with [bold]{group}={component.name}[/]. Source: [dim]{escape(str(declared.path))}[/]"
    )
