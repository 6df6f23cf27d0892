"""Each schedule against its formula, written anew."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptkit.errors import ConfigError
from gptkit.registry import load, names

NAMES = ("cosine", "linear", "constant", "wsd")


def reference(name: str, step: int, last: int, warm: int, final: float, decay: float, shape: str) -> float:
    """The same curves by another road: complex exponentials, powers and interpolation."""
    if step < warm:
        return (1 + step) / (1 + warm)
    if name == "constant":
        return 1.0
    if name == "wsd":
        start = max(float(warm), last * (1 - decay))
        done = max(0.0, (step - start) / (last - start)) if last > start else 0.0
        return final * done + (1 - done) if shape == "linear" else final * done**0.5 + (1 - done**0.5)
    done = (step - warm) / (last - warm)
    if name == "linear":
        return final * done + (1 - done)
    turned = (math.e ** (1j * math.pi * done)).real
    return (1 + final) / 2 + turned * (1 - final) / 2


@given(
    name=st.sampled_from(NAMES),
    last=st.integers(1, 500),
    at=st.floats(0, 1, exclude_max=True),
    warm=st.integers(0, 60),
    final=st.floats(0, 1),
    decay=st.floats(0, 1),
    shape=st.sampled_from(["linear", "sqrt"]),
)
def test_every_schedule_is_its_formula(name, last, at, warm, final, decay, shape) -> None:
    step = int(at * last)
    options = {"warmup_steps": warm}
    options |= {} if name == "constant" else {"final_fraction": final}
    options |= {"decay_fraction": decay, "shape": shape} if name == "wsd" else {}
    schedule = load("schedule", name)(**options)
    assert schedule.factor(step, last) == pytest.approx(
        reference(name, step, last, warm, final, decay, shape), abs=1e-12
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("warm", [0, 1, 7, 200])
def test_no_update_is_wasted_and_none_is_too_large(name: str, warm: int) -> None:
    schedule = load("schedule", name)(warmup_steps=warm)
    factors = [schedule.factor(step, 100) for step in range(100)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[: warm + 1] == sorted(factors[: warm + 1])
    if warm < 100:
        assert factors[warm] == 1.0
        assert factors[warm:] == sorted(factors[warm:], reverse=True)


def test_all_schedules_are_tested() -> None:
    assert set(names("schedule")) == set(NAMES)


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("cosine", {"warmup_steps": -1}, "schedule.warmup_steps"),
        ("linear", {"final_fraction": 1.5}, "schedule.final_fraction"),
        ("wsd", {"decay_fraction": -0.1}, "schedule.decay_fraction"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_key(name: str, options: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load("schedule", name)(**options)
