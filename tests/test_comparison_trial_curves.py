"""How each trial learned is drawn: a line for each value, in a colour by its size, and none is passed over in silence."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from demo_sweep import demo
from gptkit.compare import plots, statistics, trial_curves, tuning
from gptkit.compare.canvas import Canvas, Frame
from gptkit.compare.ink import SEQUENCE, Plot
from gptkit.compare.results import Point, Results, Trained
from gptkit.compare.series import Band
from test_comparison_report import sections, written

RATES = ("1e-4", "1e-3", "3e-3")
Row = dict[str, float]
Drawn = dict[str, tuple[Mapping[str, Band], Frame, Mapping[str, str], Canvas]]


def losses(rate: str, *, steps: Sequence[int] = (10, 20, 30, 40)) -> list[Row]:
    """Rows of validations; a greater rate learns faster."""
    return [
        {"step": n, "tokens": 100 * n, "val_loss": 4 * math.exp(-n * float(rate) * 5), "loss": 3.0}
        for n in steps
    ]


def tuned(
    folder: Path,
    change: Callable[[Trained], Trained] = lambda trial: trial,
    *,
    seeds: Sequence[int] = (1000,),
    rates: Sequence[str] = RATES,
) -> Results:
    """Two variants that tried some rates; what came of a trial may be changed."""
    made = demo(folder, ("rotary", "alibi"), seeds=2)
    space = {
        "key": "optimizer.lr",
        "choices": [],
        "low": rates[0],
        "high": rates[-1],
        "log": True,
        "whole": False,
    }
    tune = {
        "spaces": [space],
        "trials": len(rates),
        "seeds": list(seeds),
        "sweeper": "grid",
        "pruner": "median",
        "values": [{"optimizer.lr": rate} for rate in rates],
    }
    trials = []
    for number, rate in enumerate(rates):
        for label in ("rotary", "alibi"):
            for seed in seeds:
                point = Point(len(trials), {"position": label}, seed, (), number, {"optimizer.lr": rate})
                result = {"val_loss": losses(rate)[-1]["val_loss"]}
                trials.append(change(Trained(point, folder / "x", "finished", result, losses(rate))))
    best = {label: {"optimizer.lr": rates[-1]} for label in ("rotary", "alibi")}
    return dataclasses.replace(made, sweep={**made.sweep, "tune": tune}, trials=trials, tuned=best)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """What is drawn, by title, in place of a picture."""
    seen: Drawn = {}

    def keep(self: Canvas, title: str, bands: Any, frame: Frame, stops: Any = ()) -> Plot:
        seen[title] = (bands, frame, dict(stops), self)
        return Plot(title, "<svg/>")

    monkeypatch.setattr(Canvas, "lines", keep)
    return seen


def draw(results: Results) -> None:
    plots.draw(results, statistics.compare(results))


def of_rate(rate: str, **parts: Any) -> Callable[[Trained], Trained]:
    """A change to the trial of one rate."""
    return lambda trial: (
        dataclasses.replace(trial, **parts) if trial.point.tuned["optimizer.lr"] == rate else trial
    )


def test_a_line_for_each_rate_with_a_colour_by_its_size(tmp_path: Path, drawn: Drawn) -> None:
    draw(tuned(tmp_path))
    assert {"Validation loss by optimizer.lr", "rotary: each trial", "alibi: each trial"} <= drawn.keys()
    bands, frame, stops, drawer = drawn["rotary: each trial"]
    assert list(bands) == ["1e-4", "1e-3", "3e-3, best"]
    assert bands["1e-3"].x == [1000, 2000, 3000, 4000]
    assert bands["1e-3"].mean == [row["val_loss"] for row in losses("1e-3")]
    assert [drawer.colour(name) for name in bands] == [SEQUENCE[n][0] for n in (0, 4, 7)]
    assert (frame.across, frame.up, stops) == ("tokens", "validation loss, nats per token", {})
    assert frame.limits == drawn["alibi: each trial"][1].limits


def test_they_stand_in_the_page_and_in_markdown(tmp_path: Path) -> None:
    page = written(tuned(tmp_path))
    told = sections(page)["tuning"]
    assert "the stronger the colour, the greater optimizer.lr" in told
    assert told.index("Validation loss by optimizer.lr") < told.index("rotary: each trial")
    assert re.search(r"3e-3, best\s", told)
    markdown = (tmp_path / "report.md").read_text("utf-8")
    for name in ("tuning-optimizer-lr", "tuning-curve-00", "tuning-curve-01", "curve-tokens", "ranking"):
        assert f"](plots/{name}.svg)" in markdown
        assert (tmp_path / f"plots/{name}.svg").is_file()
    assert set(re.findall(r"\]\((plots/[^)]+)\)", markdown)) == {
        f"plots/{path.name}" for path in (tmp_path / "plots").iterdir()
    }
    svg = (tmp_path / "plots/tuning-curve-00.svg").read_text("utf-8")
    assert "stroke: var(--s7)" in svg
    assert "--s7: #40039c" in svg
    assert not re.search(r"(fill|stroke): ?#", svg.split("</style>", 1)[1])


def test_pruned_and_failed_trials_are_shown_or_named(tmp_path: Path, drawn: Drawn) -> None:
    def cut(trial: Trained) -> Trained:
        pruned = of_rate("1e-4", status="pruned", result={}, rows=losses("1e-4", steps=(10, 20)))
        failed = of_rate("1e-3", status="failed", result={}, rows=[])
        return failed(pruned(trial))

    results = tuned(tmp_path, cut)
    draw(results)
    bands, _, stops, _ = drawn["alibi: each trial"]
    assert list(bands) == ["1e-4", "3e-3, best"]
    assert stops["1e-4"] == "pruned"
    assert bands["1e-4"].x[-1] == 2000
    [_, without] = trial_curves.notes(results, ["rotary", "alibi"])
    assert without.endswith("are known: rotary 1e-3 (failed); alibi 1e-3 (failed).")


def test_a_trial_that_diverged_hides_no_other(tmp_path: Path, drawn: Drawn) -> None:
    wild = [{"tokens": n, "val_loss": 5.0 * n} for n in (1000, 2000, 4000)]
    draw(tuned(tmp_path, of_rate("3e-3", rows=wild)))
    bands, frame, _, _ = drawn["rotary: each trial"]
    assert "3e-3, best" in bands
    low, high = frame.limits or (0, 0)
    assert (low, high) == (losses("1e-3")[-1]["val_loss"], losses("1e-4")[1]["val_loss"])


def test_losses_of_several_sizes_have_a_logarithmic_axis(tmp_path: Path, drawn: Drawn) -> None:
    draw(tuned(tmp_path))
    assert not drawn["rotary: each trial"][1].log_up
    draw(tuned(tmp_path, rates=("1e-4", "1e-3", "3e-2")))
    assert drawn["rotary: each trial"][1].log_up


def test_several_seeds_are_a_mean_and_few_validations_give_way_to_training(
    tmp_path: Path, drawn: Drawn
) -> None:
    def by_seed(trial: Trained) -> Trained:
        rows = [{**row, "val_loss": row["val_loss"] + trial.seed} for row in trial.rows]
        return dataclasses.replace(trial, rows=rows)

    draw(tuned(tmp_path, by_seed, seeds=(8, 10)))
    bands, _, _, _ = drawn["rotary: each trial"]
    assert bands["1e-3"].mean == pytest.approx([row["val_loss"] + 9 for row in losses("1e-3")])
    assert bands["1e-3"].sd == pytest.approx([math.sqrt(2)] * 4)

    def once(trial: Trained) -> Trained:
        rows = [{k: v for k, v in row.items() if k != "val_loss"} for row in trial.rows[:-1]]
        return dataclasses.replace(trial, rows=[*rows, trial.rows[-1]])

    draw(tuned(tmp_path, once))
    bands, frame, _, _ = drawn["rotary: each trial"]
    assert frame.up == "training loss, nats per token"
    assert bands["1e-3"].mean == [3.0] * 4


def test_of_many_trials_the_best_are_drawn_and_it_is_said(tmp_path: Path, drawn: Drawn) -> None:
    rates = [f"{n}e-4" for n in range(1, 21)]
    results = tuned(tmp_path, rates=rates)
    draw(results)
    bands, _, _, _ = drawn["rotary: each trial"]
    assert list(bands) == [*rates[4:-1], "20e-4, best"]
    assert trial_curves.notes(results, ["rotary"])[-1].startswith("Of each variant the 16 trials")


def test_several_keys_name_a_line_by_all_their_values(tmp_path: Path, drawn: Drawn) -> None:
    results = tuned(tmp_path)
    tune = dict(results.sweep["tune"])
    decay = {**tune["spaces"][0], "key": "optimizer.weight_decay", "low": "0.0", "high": "0.9", "log": False}
    values = [{**value, "optimizer.weight_decay": f"0.{n}"} for n, value in enumerate(tune["values"], 1)]
    tune |= {"spaces": [*tune["spaces"], decay], "values": values}
    trials = [
        dataclasses.replace(t, point=dataclasses.replace(t.point, tuned=values[t.point.trial or 0]))
        for t in results.trials
    ]
    both = dataclasses.replace(
        results,
        sweep={**results.sweep, "tune": tune},
        trials=trials,
        tuned=dict.fromkeys(("rotary", "alibi"), values[-1]),
    )
    draw(both)
    assert list(drawn["rotary: each trial"][0]) == ["1e-4, 0.1", "1e-3, 0.2", "3e-3, 0.3, best"]
    named = "Lines are named by optimizer.lr and optimizer.weight_decay, in this order."
    assert named in trial_curves.notes(both, ["rotary"])
    assert named not in trial_curves.notes(results, ["rotary"])
    assert ["A dot is the mean of all trials with its value" in tuning.told(r) for r in (both, results)] == [
        True,
        False,
    ]
    texts = [caution.text for caution in tuning.cautions(both)]
    assert len(texts) == 2
    assert all("Widen the range, or take more trials (trials=)." in text for text in texts)
    assert [c.text.endswith("Widen the range.") for c in tuning.cautions(results)] == [True]


def test_without_tuning_there_is_nothing(tmp_path: Path, drawn: Drawn) -> None:
    results = demo(tmp_path, ("rotary", "alibi"), seeds=2)
    draw(results)
    assert not [title for title in drawn if "trial" in title]
    assert trial_curves.notes(results, ["rotary"]) == []
