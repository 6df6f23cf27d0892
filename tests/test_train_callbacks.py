"""What ends a run before its last step."""

from __future__ import annotations

import time

import pytest
from torch import nn

from gptkit.errors import ConfigError
from gptkit.train.agreement import Ballot
from gptkit.train.callbacks import EarlyStop, TimeLimit
from gptkit.train.meter import StepOutcome

LOSSES = [3.0, 2.0, 2.1, 1.9, 1.95, 1.9, 2.5, 1.0]


def answers(callback: EarlyStop, losses: list[float]) -> list[bool]:
    return [callback.after_validation(step, loss) for step, loss in enumerate(losses)]


def test_a_run_ends_when_nothing_was_gained_for_long_enough() -> None:
    assert answers(EarlyStop(patience=2), LOSSES).index(True) == 5
    assert answers(EarlyStop(patience=3), LOSSES).index(True) == 6
    assert answers(EarlyStop(patience=1, least=0.5), LOSSES).index(True) == 2


@pytest.mark.parametrize("cut", range(6))
def test_a_resumed_run_ends_where_a_straight_one_does(cut: int) -> None:
    straight = answers(EarlyStop(patience=3), LOSSES)
    resumed = EarlyStop(patience=3)
    resumed.start(nn.Identity(), [{"step": i, "val_loss": loss} for i, loss in enumerate(LOSSES[:cut])])
    assert answers(resumed, LOSSES[cut:]) == straight[cut:]


def test_no_patience_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"callback\.early_stop\.patience"):
        EarlyStop(patience=0)


def test_time_is_counted_from_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    limit = TimeLimit(minutes=2)
    limit.start(nn.Identity(), [])
    outcome = StepOutcome(1, 0.0, 1, 0.0, 0.0, Ballot(0, 1, True, 0, False))
    now[0] += 119
    assert not limit.after_step(outcome)
    now[0] += 1
    assert limit.after_step(outcome)
