"""`gptkit plugins`: what is installed beside the core."""

from __future__ import annotations

import json
from typing import Any

from gptkit import registry
from gptkit.cli.arguments import split_flags

SUMMARY = "the plugins that are found, and what they bring"
USAGE = """\
gptkit plugins [--json]

Plugins are looked for in the project's plugins/, in ./plugins (or the folders that GPTKIT_PLUGINS lists in its
place), and among installed packages. None is imported to be listed.
"""


def run(args: list[str]) -> int:
    """List plugins with their parts; says which could not be read."""
    flags, _ = split_flags(args, ["--json"])
    found = registry.catalogue()
    plugins: dict[tuple[str, str], dict[str, Any]] = {}
    for claims in found.parts.values():
        for component in claims:
            origin = component.origin
            if origin.kind == "core":
                continue
            place = str(origin.location)
            fresh = {
                "name": origin.package,
                "version": origin.version,
                "kind": origin.kind,
                "location": place,
            }
            entry = plugins.setdefault((origin.package, place), {**fresh, "parts": []})
            entry["parts"].append(f"{component.slot}={component.name}")
    for name, folder in found.conf_dirs:
        for (package, _), entry in plugins.items():
            if package == name:
                entry["conf"] = str(folder)
    if "--json" in flags:
        print(json.dumps({"plugins": list(plugins.values()), "broken": found.broken}, indent=2))
        return 0
    _show(list(plugins.values()), found.broken)
    return 0


def _show(plugins: list[dict[str, Any]], broken: dict[str, str]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    for plugin in plugins:
        console.print(
            f"[bold]{escape(plugin['name'])}[/] {plugin['version']}  [dim]{escape(plugin['location'])}[/]"
        )
        console.print(f"  {', '.join(plugin['parts'])}")
    if not plugins:
        console.print("No plugins. gptkit new plugin NAME slot=model.position writes one.")
    for place, message in broken.items():
        console.print(f"[red]cannot be read[/]: {escape(place)}\n  {escape(message)}")
