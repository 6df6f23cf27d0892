"""Which parts are meant, and which checks they get."""

from __future__ import annotations

from collections.abc import Iterator

from gptkit import registry
from gptkit.errors import UserError, did_you_mean
from gptkit.registry import Component
from gptkit.testing.checks import Check, checks_of, subjects_of
from gptkit.testing.subject import Subject


def chosen(name: str) -> list[Component]:
    """The parts that a word means: a package's, a slot's, one of that name; or `core`, or `all`.

    Raises:
        UserError: it means nothing; names the nearest.
    """
    everything = registry.components()
    slot, _, part = name.replace("/", ".").partition("=")
    last = {c: c.slot.rpartition(".")[2] for c in everything}
    found = [c for c in everything if name == c.name or (part == c.name and slot in {c.slot, last[c]})]
    if not found:
        owners = {name, f"gptkit-{name}"}
        found = [
            c for c in everything if name in {"all", c.slot, c.origin.kind} or c.origin.package in owners
        ]
    if not found:
        known = sorted(
            {c.name for c in everything} | {c.origin.package for c in everything} | set(registry.SLOTS)
        )
        meant = did_you_mean(name, known) or "gptkit components lists the parts."
        raise UserError(f"{name!r} is no part, slot or plugin. {meant}")
    return found


def planned(component: Component, *, slow: bool = False) -> Iterator[tuple[Subject, Check]]:
    """Every check of a part with every set of options to try; some need one set alone."""
    for number, subject in enumerate(subjects_of(component)):
        for check in checks_of(component.slot, slow=slow):
            if number == 0 or not check.once:
                yield subject, check
