"""What trials told before the reported runs: the loss by each tuned value, and how far it may be believed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gptkit.compare import series
from gptkit.compare.honesty import Caution
from gptkit.compare.results import Results, Trained
from gptkit.compare.series import Band
from gptkit.compare.spaces import Space, Tuning
from gptkit.compare.tables import Cell, Table, shown
from gptkit.compare.trials import tuning_of

if TYPE_CHECKING:
    from gptkit.compare.canvas import Canvas
    from gptkit.compare.ink import Plot

_EDGE = 0.05  # of a range, at either end, where any value of it may be tried
_MOST_VALUES = 12


def facts(results: Results) -> dict[str, Any] | None:
    """All of it as plain data; None where nothing was tuned."""
    tuning = tuning_of(results.sweep)
    if tuning is None:
        return None
    return {
        **{key: value for key, value in tuning.facts().items() if key != "values"},
        "trials_each": tuning.trials,
        "keys": tuning.keys,
        "metric": tuning.metric,
        "chosen": {label: dict(values) for label, values in results.tuned.items()},
        "curves": {
            key: {label: [list(point) for point in points] for label, points in _points(results, key).items()}
            for key in tuning.keys
        },
        "trials": [
            {
                "label": trial.label,
                "trial": trial.point.trial,
                "seed": trial.seed,
                "values": dict(trial.point.tuned),
                "loss": _loss(trial, tuning),
                "status": trial.status,
                "path": str(trial.path),
            }
            for trial in results.trials
        ],
    }


def told(results: Results) -> str:
    """How variants were tuned, in words; empty where they were not."""
    tuning = tuning_of(results.sweep)
    if tuning is None:
        return ""
    seeds = "seed {}, which is" if len(tuning.seeds) == 1 else "seeds {}, which are"
    seeds = seeds.format(" and ".join(map(str, tuning.seeds)))
    how = "the same values" if tuning.sweeper == "grid" else "values that Optuna chose"
    unit = "bits per byte" if tuning.metric == "val_bits_per_byte" else "validation loss"
    dots = (
        " A dot is the mean of all trials with its value, whatever they had of other keys; its bar is one standard "
        "deviation."
    )
    return (
        f"Before its reported runs each variant had {tuning.trials} trials with {how} of "
        f"{' and '.join(tuning.keys)}, and took the best by {unit} on {seeds} not reported."
        f"{dots if len(tuning.keys) > 1 else ''}"
    )


def tables(results: Results, labels: Sequence[str]) -> list[Table]:
    """What each variant chose among how many trials; and for a grid of one key the loss of each value."""
    tuning = tuning_of(results.sweep)
    if tuning is None or not results.trials:
        return []
    rows = []
    for label in labels:
        trials = [trial for trial in results.trials if trial.label == label]
        chosen = results.tuned.get(label, {})
        best = [trial for trial in trials if chosen and trial.point.tuned == chosen]
        counts = [sum(trial.status == status for trial in trials) for status in ("finished", "pruned")]
        values = [_chosen_cell(tuning, space, chosen) for space in tuning.spaces]
        loss = shown(series.mean_of(series.number(_loss(trial, tuning)) for trial in best))
        told = [loss, *map(str, [len(trials), *counts, len(trials) - sum(counts)])]
        rows.append([Cell(label), *values, *map(Cell, told)])
    header = ["variant", *(f"best {key}" for key in tuning.keys), "its loss"]
    found = [Table([*header, "trials", "finished", "pruned", "failed or left"], rows, [])]
    if len(tuning.spaces) == 1 and tuning.values and len(tuning.values) <= _MOST_VALUES:
        found.append(_by_value(results, labels, tuning))
    return found


def plots(results: Results, canvas: Canvas, labels: Sequence[str]) -> Iterator[tuple[str, Plot]]:
    """The loss against each tuned number: lines for one key, dots where several were tuned at once."""
    from gptkit.compare.canvas import Frame

    tuning = tuning_of(results.sweep)
    for space in tuning.spaces if tuning else ():
        found = _points(results, space.key)
        bands = {
            label: Band(*zip(*found[label], strict=True)) for label in labels if len(found.get(label, ())) > 1
        }
        if tuning is None or not bands:
            continue
        tried = sorted({x for band in bands.values() for x in band.x})
        ends = space if space.low else Space(space.key, log=tried[0] > 0 and tried[-1] >= 10 * tried[0])
        ticks = _ticks(tried, log=ends.log)
        means = [mean for band in bands.values() for mean in band.mean]
        up = "bits per byte" if tuning.metric == "val_bits_per_byte" else "nats per token"
        frame = Frame(
            space.key,
            f"validation loss, {up}",
            ends.log,
            limits=(min(means), sorted(means)[math.ceil(0.9 * len(means)) - 1]),
            ticks=ticks,
            dots=len(tuning.spaces) > 1,
        )
        name = space.key.replace(".", "-").replace("/", "-")
        yield f"tuning-{name}", canvas.lines(f"Validation loss by {space.key}", bands, frame)


def _ticks(tried: Sequence[float], *, log: bool) -> list[float]:
    """Both ends, and the value nearest to the middle unless it stands so near an end that it could not be read."""
    at = [math.log(value) if log else value for value in tried]
    shares = [(place - at[0]) / (at[-1] - at[0]) for place in at]
    middle = min(range(len(tried)), key=lambda n: abs(shares[n] - 0.5))
    return [tried[0], *([tried[middle]] if 0.3 < shares[middle] < 0.7 else []), tried[-1]]


def cautions(results: Results) -> Iterator[Caution]:
    """Where the choice of values is weak: at the edge of what was tried, or from fewer trials than others."""
    tuning = tuning_of(results.sweep)
    for space in tuning.spaces if tuning else ():
        for end, word in ((0, "lower"), (1, "upper")):
            at_edge = [
                f"{label} ({chosen[space.key]})"
                for label, chosen in results.tuned.items()
                if tuning and _edge(tuning, space, chosen) == end
            ]
            if tuning and at_edge:
                yield Caution(
                    "tuned_to_the_edge",
                    f"{'; '.join(at_edge)}: the best {space.key} {_stands(tuning, space, end, word)}, so a better "
                    f"one may lie beyond it. {_wider(tuning, space)}",
                )
    lost: dict[str, int] = {}
    for trial in results.trials:
        if trial.status not in ("finished", "pruned"):
            lost[trial.label] = lost.get(trial.label, 0) + 1
    if lost:
        counts = "; ".join(f"{label} {count}" for label, count in lost.items())
        yield Caution("failed_trials", f"Trials that did not finish, and so could not be chosen: {counts}.")
    untuned = [label for label in results.labels if label not in results.tuned] if tuning else []
    if untuned:
        yield Caution(
            "untuned",
            f"{'; '.join(untuned)}: no value was chosen, for its trials failed or are still to come; it has "
            "no reported runs.",
        )


def _chosen_cell(tuning: Tuning, space: Space, chosen: Mapping[str, str]) -> Cell:
    edge = _edge(tuning, space, chosen)
    note = "" if edge is None else f"at the {('lower', 'upper')[edge]} end"
    return Cell(chosen.get(space.key, "–"), note, bool(note))


def _by_value(results: Results, labels: Sequence[str], tuning: Tuning) -> Table:
    """Losses, a row for each variant and a column for each value."""
    key, rows = tuning.keys[0], []
    for label in labels:
        row = [Cell(label)]
        for values in tuning.values:
            trials = [t for t in results.trials if t.label == label and t.point.tuned == values]
            losses = [series.number(_loss(trial, tuning)) for trial in trials]
            best = results.tuned.get(label) == values
            row.append(Cell(shown(series.mean_of(losses)), "best" if best else "", best))
        rows.append(row)
    header = ["variant", *(values[key] for values in tuning.values)]
    return Table(header, rows, [f"Validation loss at each {key}, the mean where there are several seeds."])


def _points(results: Results, key: str) -> dict[str, list[tuple[float, float, float]]]:
    """By variant: each number tried for a key, the mean loss there, and its spread over seeds or trials."""
    tuning = tuning_of(results.sweep)
    found: dict[str, dict[float, list[float]]] = {}
    for trial in results.trials:
        x, loss = _float(trial.point.tuned.get(key)), series.number(tuning and _loss(trial, tuning))
        if math.isfinite(x) and math.isfinite(loss):
            found.setdefault(trial.label, {}).setdefault(x, []).append(loss)
    return {
        label: [(x, series.mean_of(ys), series.spread_of(ys)) for x, ys in sorted(held.items())]
        for label, held in found.items()
    }


def _loss(trial: Trained, tuning: Tuning) -> float | None:
    """At its end; of a trial that was pruned there is none to set beside the others'."""
    loss = series.number(trial.result.get(tuning.metric)) if trial.status == "finished" else math.nan
    return loss if math.isfinite(loss) else None


def _edge(tuning: Tuning, space: Space, chosen: Mapping[str, str]) -> int | None:
    """0 or 1 where the value is the least or the greatest of those listed or of a grid, or lies within 5 % of
    either bound of a range that Optuna chose from; else None."""
    value, ends = _float(chosen.get(space.key)), sorted(map(_float, _tried(tuning, space) or space.ends))
    if len(ends) < 2 or not all(map(math.isfinite, (value, *ends))):
        return None
    low, high = ends[0], ends[-1]
    if space.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    share = (value - low) / (high - low) if high > low else 0.5
    near = 0.0 if _tried(tuning, space) else _EDGE
    return 0 if share <= near else 1 if share >= 1 - near else None


def _tried(tuning: Tuning, space: Space) -> Sequence[str]:
    """The values of a grid or a list; none where any of a range may be tried."""
    return [values[space.key] for values in tuning.values] or space.choices


def _stands(tuning: Tuning, space: Space, end: int, word: str) -> str:
    if _tried(tuning, space):
        return f"stands at the {word} end of what was tried"
    by = " by the logarithm" if space.log else ""
    return f"stands within {_EDGE:.0%} of the {word} end of its range ({(space.low, space.high)[end]}){by}"


def _wider(tuning: Tuning, space: Space) -> str:
    """What to do; a range beside other keys is filled from within, so that its ends may never have been tried."""
    within = bool(tuning.values and space.low and len(tuning.spaces) > 1)
    return f"Widen the range{', or take more trials (trials=)' if within else ''}."


def _float(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return math.nan
