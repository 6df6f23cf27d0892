"""Every part that there is keeps every law that is about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gptkit import registry
from gptkit.testing import run_check
from gptkit.testing.select import planned

PARTS = [c for c in registry.components() if c.origin.kind in {"core", "folder"}]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.slot}={part.name}")
def test_it_keeps_the_laws(part: registry.Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcomes = [run_check(check, subject) for subject, check in planned(part)]
    broken = [f"{o.subject.label}: {o.check.name}: {o.told}" for o in outcomes if o.status == "failed"]
    assert not broken, "\n".join(broken)
    defaults = [o for o in outcomes if not o.subject.options]
    told = [f"{o.check.name}: {o.told}" for o in defaults if o.status == "refused"]
    held = [o.check.name for o in outcomes if o.status in {"passed", "expected"}]
    assert {"documented", "yaml_equals_signature"} & set(held), told


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    [part for part in PARTS if part.slot.startswith("model.")],
    ids=lambda part: f"{part.slot}={part.name}",
)
def test_it_compiles(part: registry.Component) -> None:
    outcomes = [run_check(check, subject) for subject, check in planned(part, slow=True) if check.slow]
    broken = [f"{o.subject.label}: {o.told}" for o in outcomes if o.status == "failed"]
    assert not broken, "\n".join(broken)
