"""Parts that are wrong on purpose: each is caught by the law that it breaks."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gptkit import registry
from gptkit.registry import Component, Origin
from gptkit.testing import checks_of, run_check
from gptkit.testing.subject import Subject
from wrong import faults

FAULTS = faults()


@pytest.mark.parametrize(("slot", "law", "cls"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_the_law_catches_it(
    slot: str, law: str, cls: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(cls, "__module__", "wrong_parts")
    monkeypatch.setitem(registry._registered, (slot, "wrong"), cls)
    monkeypatch.chdir(tmp_path)
    origin = Origin("session", "wrong_parts", "", tmp_path)
    subject = Subject(Component(slot, "wrong", origin, "wrong_parts", cls.__name__, live=cls), {})
    check = next(check for check in checks_of(slot) if check.name == law)
    generator = copy.deepcopy(torch.get_rng_state())
    outcome = run_check(check, subject)
    torch.set_num_threads(threads)
    torch.set_rng_state(generator)
    assert outcome.status == "failed", (
        f"{cls.__name__} was not caught by {law}: {outcome.status} {outcome.told}"
    )


@pytest.mark.parametrize(
    ("slot", "name", "told"),
    [
        (
            "model.position",
            "seeds_on_import",
            "Importing seeds_on_import changed torch's random generator, random's generator, the default dtype, "
            "the threads, the environment, the files of the working directory.",
        ),
        (
            "model.norm",
            "seeds_on_first_use",
            "Building model.norm=seeds_on_first_use for the first time changed random's generator.",
        ),
    ],
)
def test_what_an_import_changes_is_told(
    slot: str, name: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GPTKIT_PLUGINS", str(Path(__file__).parent / "wrong" / "plugins"))
    monkeypatch.chdir(tmp_path)
    registry.refresh()
    try:
        check = next(check for check in checks_of(slot) if check.name == "imports_without_a_trace")
        with pytest.raises(AssertionError) as caught:  # by itself: run_check would import it here
            check.run(Subject(registry.find(slot, name)))
    finally:
        registry.refresh()
    assert str(caught.value) == told
    assert name not in sys.modules
    assert not list(tmp_path.iterdir())


def test_there_are_enough_of_them_and_every_law_of_models_has_one() -> None:
    assert len(FAULTS) >= 40
    caught: set[Any] = {law for _, law, _ in FAULTS}
    slots = [
        "model.position",
        "model.attention",
        "model.mask",
        "model.norm",
        "tokenizer",
        "optimizer",
        "sampler",
        "callback",
    ]
    every = {check.name for slot in slots for check in checks_of(slot) if not check.once}
    assert not every - caught - {"rebuilds_alike", "needs_no_memory_to_plan", "copies_whole", "learns"}
