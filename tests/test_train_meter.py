"""Every rate that is printed, against a clock that the test turns."""

from __future__ import annotations

import pytest

from gptkit.train.agreement import Ballot
from gptkit.train.meter import Meter, StepOutcome


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def outcome(step: int, loss: float = 1.0, targets: int = 50) -> StepOutcome:
    return StepOutcome(step, loss, targets, 2.0 * step, 0.1 * step, Ballot(loss, targets, True, 0, False))


def test_rates_are_of_the_wall_clock_and_means_of_the_interval() -> None:
    clock = Clock()
    meter = Meter(clock=clock)
    clock.now += 30  # compiling, say: before the first step
    meter.start()
    for step in (1, 2):
        clock.now += 2
        meter.add(outcome(step, loss=step))
    assert meter.row() == pytest.approx(
        {
            "step": 2, "loss": 1.5, "learning_rate": 0.2, "gradient_norm": 3.0, "tokens": 100,
            "tokens_per_second": 25.0, "seconds": 4.0,
        }
    )  # fmt: skip
    clock.now += 6  # a validation in between takes time as well
    meter.add(outcome(3, loss=9.0, targets=30))
    clock.now += 4
    row = meter.row()
    assert row["tokens_per_second"] == pytest.approx(3.0)
    assert row["loss"] == 9.0
    assert row["tokens"] == 130
    assert row["seconds"] == pytest.approx(14.0)


def test_a_resumed_run_counts_on() -> None:
    clock = Clock()
    meter = Meter(tokens=1000, seconds=50.0, clock=clock)
    meter.start()
    clock.now += 5
    meter.add(outcome(21, targets=100))
    row = meter.row()
    assert row["tokens"] == 1100
    assert row["seconds"] == pytest.approx(55.0)
    assert row["tokens_per_second"] == pytest.approx(20.0)


def test_no_step_gives_no_row() -> None:
    meter = Meter()
    assert meter.row() == {}
    meter.add(outcome(1))
    assert meter.row()["step"] == 1
    assert meter.row() == {}
