"""What a check is, which ones a part must pass, and what came of them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from gptkit.errors import GptkitError
from gptkit.registry import Component
from gptkit.signature import REQUIRED
from gptkit.testing.subject import Refused, Subject

_MODULES = ("contract", "model_laws", "reading", "masks", "text_laws", "training_laws")
_found: list[Check] = []
ENVIRONMENT = dict(os.environ)  # before any part was imported


@dataclass(frozen=True)
class Check:
    """One law.

    Attributes:
        name: such as `causal`.
        law: what must hold, one line.
        slots: which parts it is about; a prefix such as `model` stands for all below it.
        slow: takes seconds.
        once: holds or fails whatever the options are.
        run: raises AssertionError where it does not hold, and Refused where it does not apply.
    """

    name: str
    law: str
    slots: tuple[str, ...]
    slow: bool
    once: bool
    run: Callable[[Subject], None]

    def is_about(self, slot: str) -> bool:
        return any(not s or slot == s or slot.startswith(f"{s}.") for s in self.slots)


@dataclass(frozen=True)
class Outcome:
    """What came of one check on one part.

    Attributes:
        status: passed; failed; refused, where the part says by a named error that it cannot, or the law
            is not about it; expected, where it fails as its class says.
        told: why.
    """

    check: Check
    subject: Subject
    status: Literal["passed", "failed", "refused", "expected"]
    told: str = ""


def law(
    *slots: str, slow: bool = False, once: bool = False
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Decorator: a function is a check; its name is the check's, its docstring the law."""

    def decorate(run: Callable[[Subject], None]) -> Callable[[Subject], None]:
        text = " ".join((run.__doc__ or "").split())
        _found.append(Check(run.__name__, text, slots or ("",), slow, once, run))
        return run

    return decorate


def checks_of(slot: str, *, slow: bool = False) -> list[Check]:
    """Every check that is about a slot.

    Args:
        slot: such as `model.position`.
        slow: those that take seconds as well.
    """
    for module in _MODULES:
        importlib.import_module(f"gptkit.testing.{module}")
    return [check for check in _found if check.is_about(slot) and (slow or not check.slow)]


def subjects_of(component: Component) -> list[Subject]:
    """A part with its defaults, with each other choice that an option lists, and with its own examples."""
    declared = component.declaration.options
    required = [option.name for option in declared if option.default is REQUIRED]
    examples = list(getattr(component.load(), "examples", []))
    subjects = [] if required else [Subject(component, {})]
    base = dict(examples[0]) if required and examples else {}
    if required and not examples and all(check.once for check in checks_of(component.slot)):
        return [Subject(component, {})]  # nothing of its slot is built
    if required and not examples:
        raise AssertionError(
            f"{component.slot}={component.name} needs {', '.join(required)}, so its class must show options that "
            f"work: examples = [{{{required[0]!r}: …}}]."
        )
    subjects += [Subject(component, dict(example)) for example in examples]
    for option in declared:
        for value in _others(option.type, option.default):
            subjects.append(Subject(component, {**base, option.name: value}))
    return subjects


def _others(kind: object, default: object) -> Iterator[object]:
    """The other values of an option that lists them."""
    if get_origin(kind) is Literal:
        yield from (value for value in get_args(kind) if value != default)
    elif kind is bool:
        yield not default


def run_check(check: Check, subject: Subject) -> Outcome:
    """Try one law on one part; never raises what the part did wrong."""
    expected = getattr(subject.component.load(), "expected_failures", {}).get(check.name)
    try:
        check.run(subject)
    except Refused as reason:
        return Outcome(check, subject, "refused", str(reason))
    except Exception as error:
        told = (
            str(error)
            if isinstance(error, (AssertionError, GptkitError))
            else f"{type(error).__name__}: {error}"
        )
        told = f"{check.law} {told}".strip()
        return Outcome(check, subject, "expected" if expected else "failed", expected or told)
    if expected:
        told = f"It holds, though its class says that it does not ({expected}). Take it out of expected_failures."
        return Outcome(check, subject, "failed", told)
    return Outcome(check, subject, "passed")
