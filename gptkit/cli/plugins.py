"""`gptkit plugins`: what there is beside the core."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from gptkit import registry
from gptkit.cli.arguments import flags_alone
from gptkit.cli.paper import Paper
from gptkit.errors import GptkitError

SUMMARY = "the plugins that are found, and what is wrong with them"
USAGE = """\
gptkit plugins [--check] [--json]

Plugins are looked for in the project's plugins/, in ./plugins (or the folders
that GPTKIT_PLUGINS lists in its place), and among installed packages. None is
imported to be listed.

  gptkit plugins
  gptkit plugins --check                    import each part, say what fails
  GPTKIT_PLUGINS=~/parts gptkit plugins     look there instead of ./plugins
"""


@dataclass
class Plugin:
    """One plugin, as it is found.

    Attributes:
        name, version, kind, location: as in `registry.Origin`.
        parts: what it registers, such as `model.position=rotary`.
        conf: its folder of YAML, if it has one.
        errors: what is wrong with it.
    """

    name: str
    version: str
    kind: str
    location: str
    parts: list[str] = field(default_factory=list)
    conf: str | None = None
    errors: list[str] = field(default_factory=list)


def run(args: list[str]) -> int:
    """List plugins with their parts; returns 1 if something is wrong with one.

    Raises:
        UserError: there are words that it does not take.
    """
    flags = flags_alone("plugins", args, ["--json", "--check"])
    plugins = found(check="--check" in flags)
    if "--json" in flags:
        print(json.dumps([asdict(plugin) for plugin in plugins], indent=2))
    else:
        _show(plugins, Paper())
    return int(any(plugin.errors for plugin in plugins))


def found(*, check: bool = False) -> list[Plugin]:
    """Every plugin.

    Args:
        check: import each part as well, to find what fails.
    """
    catalogue = registry.catalogue()
    plugins: dict[tuple[str, str], Plugin] = {}
    for (slot, name), claims in catalogue.parts.items():
        for component in claims:
            origin = component.origin
            if origin.kind == "core":
                continue
            key = (origin.package, str(origin.location))
            fresh = Plugin(origin.package, origin.version, origin.kind, str(origin.location))
            plugin = plugins.setdefault(key, fresh)
            plugin.parts.append(f"{slot}={name}")
            plugin.errors += _errors(component, check)
    for package, folder in catalogue.conf_dirs:
        own = [plugin for (name, _), plugin in plugins.items() if name == package]
        for plugin in own or [
            plugins.setdefault((package, ""), Plugin(package, "", "folder", str(folder.parent)))
        ]:
            plugin.conf = str(folder)
    for place, message in catalogue.broken.items():
        plugins[place, ""] = Plugin(place.rsplit("/", 1)[-1], "", "broken", place, errors=[message])
    return sorted(plugins.values(), key=lambda plugin: plugin.name)


def _errors(component: registry.Component, check: bool) -> list[str]:
    """What is wrong with a part: another that has its name, its source, or its import."""
    told = []
    try:
        registry.find(component.slot, component.name)
    except GptkitError as error:
        told.append(str(error))
    try:
        _ = component.declaration
        if check and not told:
            component.load()
    except GptkitError as error:
        told.append(str(error))
    return told


def _show(plugins: list[Plugin], paper: Paper) -> None:
    if not plugins:
        paper.line(
            ("No plugins. ", ""), ("gptkit new plugin NAME slot=model.position", "cyan"), (" writes one.", "")
        )
    for plugin in plugins:
        paper.line((plugin.name, "bold"), (f" {plugin.version}".rstrip(), ""), (f"  {plugin.kind}", "dim"))
        for label, text in (
            ("parts", ", ".join(plugin.parts)),
            ("YAML", plugin.conf),
            ("where", plugin.location),
        ):
            if text:
                paper.hanging((f"  {label:<6}", "dim"), text=text, indent=8)
        for error in plugin.errors:
            paper.wrapped(error, indent=2, style="red")
