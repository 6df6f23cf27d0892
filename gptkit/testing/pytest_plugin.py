"""`pytest --gptkit-conformance PACKAGE`: every check on every part of a package, each as a test."""

from __future__ import annotations

from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gptkit")
    group.addoption(
        "--gptkit-conformance", action="append", default=[], metavar="PACKAGE",
        help="check the parts of a plugin, a slot, or one part by name; 'core', or 'all'",
    )  # fmt: skip
    group.addoption("--gptkit-slow", action="store_true", help="with the checks that take seconds")


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[Any]) -> None:
    """Put the checks in the place of the folders that pytest would have looked through by itself."""
    asked = config.getoption("--gptkit-conformance")
    if not asked:
        return
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        items.clear()
    slow = bool(config.getoption("--gptkit-slow"))
    items += [item for name in asked for item in _items(session, name, slow)]


def _items(session: pytest.Session, name: str, slow: bool) -> list[Any]:
    from gptkit.errors import GptkitError
    from gptkit.testing.select import chosen, planned

    try:
        parts = chosen(name)
    except GptkitError as error:
        raise pytest.UsageError(str(error)) from None
    return [
        _Law.from_parent(
            session, name=f"{subject.label} {check.name}".replace(" ", "::"), check=check, subject=subject
        )
        for component in parts
        for subject, check in planned(component, slow=slow)
    ]


class _Law(pytest.Item):
    """One check on one part."""

    def __init__(self, *, check: Any, subject: Any, **more: Any) -> None:
        super().__init__(**more)
        self.check, self.subject = check, subject

    def runtest(self) -> None:
        from gptkit.testing.checks import run_check

        outcome = run_check(self.check, self.subject)
        if outcome.status == "failed":
            raise _Broken(outcome.told)
        if outcome.status == "refused":
            pytest.skip(outcome.told)
        if outcome.status == "expected":
            pytest.xfail(outcome.told)

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        if isinstance(excinfo.value, _Broken):
            return f"{self.subject.label}\n{self.check.name}: {excinfo.value}"
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name


class _Broken(AssertionError):
    """A law does not hold."""
