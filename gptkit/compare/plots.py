"""Which plots a report holds, and of what."""

from __future__ import annotations

from collections.abc import Iterator

from gptkit.compare import positions, probes, series, trial_curves, tuning, words
from gptkit.compare.canvas import Canvas, Frame, Row, drawing
from gptkit.compare.ink import Plot
from gptkit.compare.results import Results
from gptkit.compare.series import Band
from gptkit.compare.statistics import Comparison

MOST_LINES, MOST_RANKED, MOST_LAYERS = 10, 40, 6


def draw(results: Results, comparison: Comparison) -> dict[str, Plot]:
    """Every plot that the measures allow, by name; of many variants the best ones alone.

    Args:
        results: the sweep.
        comparison: what its scores prove.
    """
    with drawing():
        return dict(_Draw(results, comparison).all())


class _Draw:
    def __init__(self, results: Results, comparison: Comparison) -> None:
        self.results, self.comparison = results, comparison
        self.canvas = Canvas(results.labels)
        ranked = series.order(results, (one.label for one in comparison.ranking))
        self.runs = {label: series.runs_of(results, label) for label in ranked[:MOST_LINES]}

    def all(self) -> Iterator[tuple[str, Plot]]:
        yield from self.ranking()
        yield from self.differences()
        yield from self.curves()
        yield from tuning.plots(self.results, self.canvas, list(self.runs))
        yield from trial_curves.plots(self.results, list(self.runs))
        yield from probes.plots(self.results, self.canvas, list(self.runs))
        bands = _some({label: series.positions(runs) for label, runs in self.runs.items()})
        if bands:
            frame = Frame("position in the context, tokens", "loss, nats per token", log=True)
            yield "position", self.canvas.lines("Loss by position within the context", bands, frame)
        yield from self.lengths()
        yield from positions.plots(self.results, self.canvas, list(self.runs))
        yield from self.attention()

    def ranking(self) -> Iterator[tuple[str, Plot]]:
        """A dot for each seed, and each mean with its interval."""
        found = self.comparison.ranking[:MOST_RANKED]
        rows = [Row(one.label, one.mean, one.interval, list(one.scores.values())) for one in found]
        if rows:
            yield (
                "ranking",
                self.canvas.whiskers(
                    "Each seed, and the mean with its 95 % interval", rows, words.metric(self.comparison)
                ),
            )

    def differences(self) -> Iterator[tuple[str, Plot]]:
        """How much worse each is than the best, or than the baseline."""
        if not self.comparison.ranking:
            return
        best = self.comparison.baseline or self.comparison.ranking[0].label
        rows = []
        for d in self.comparison.differences:
            if best in (d.a, d.b) and d.n_pairs > 1:
                other, sign = (d.b, -1) if d.a == best else (d.a, 1)
                low, high = sorted(sign * end for end in d.interval)
                rows.append(Row(other, sign * d.mean, (low, high), filled=d.told_apart))
        if rows:
            title, across = (
                f"Paired differences from {best}",
                f"{self.comparison.unit} above {self.canvas.short[best]}",
            )
            yield "differences", self.canvas.whiskers(title, rows[:MOST_RANKED], across, zero=True)

    def curves(self) -> Iterator[tuple[str, Plot]]:
        """The validation loss as training goes on; its first quarter may lie above the frame."""
        in_bytes = self.comparison.metric == "val_bits_per_byte"
        key, unit = ("val_bits_per_byte", "bits per byte") if in_bytes else ("val_loss", "nats per token")
        for across, label in (("tokens", "tokens"), ("flops", "FLOPs"), ("seconds", "time, seconds")):
            bands = _some({label: series.curve(runs, key, across) for label, runs in self.runs.items()})
            if bands:
                later = [
                    mean
                    for band in bands.values()
                    for x, mean in zip(band.x, band.mean, strict=True)
                    if x >= band.x[0] + 0.25 * (band.x[-1] - band.x[0])
                ]
                frame = Frame(label, f"validation loss, {unit}", limits=(min(later), max(later)))
                yield f"curve-{across}", self.canvas.lines(f"By {label.split(',')[0]}", bands, frame)

    def lengths(self) -> Iterator[tuple[str, Plot]]:
        """Two panels with one scale, and the early part."""
        refused = {label: series.refusals(runs) for label, runs in self.runs.items()}
        titles = {
            "non_overlapping": "Non-overlapping windows",
            "sliding": "Sliding windows",
            "early": "The start of each window: a quarter of the trained context",
        }
        found = {
            key: _some({label: series.lengths(runs, key) for label, runs in self.runs.items()})
            for key in titles
        }
        both = [
            end
            for key in ("non_overlapping", "sliding")
            for band in found[key].values()
            for mean, sd in zip(band.mean, band.sd, strict=True)
            for end in (mean - sd, mean + sd)
        ]
        for key, bands in found.items():
            if bands:
                stops = series.stops(bands, refused, " ×")
                ticks = sorted({x for band in bands.values() for x in band.x})
                limits = (min(both), max(both)) if both and key != "early" else None
                frame = Frame(
                    "length, × the trained context", "loss, nats per token", True, limits=limits, ticks=ticks
                )
                yield f"length-{key.replace('_', '-')}", self.canvas.lines(titles[key], bands, frame, stops)

    def attention(self) -> Iterator[tuple[str, Plot]]:
        """A panel for each layer, or for some of many."""
        found = {label: series.attention(runs) for label, runs in self.runs.items()}
        layers = max((len(held) for held in found.values()), default=0)
        some = list(range(layers))
        if layers > MOST_LAYERS:
            some = [round(i * (layers - 1) / (MOST_LAYERS - 1)) for i in range(MOST_LAYERS)]
        for layer in some:
            bands = _some({label: _beyond(held[layer]) for label, held in found.items() if layer < len(held)})
            if bands:
                frame = Frame("distance + 1, tokens", "mean weight", log=True, log_up=True)
                yield (
                    f"attention-{layer + 1:02d}",
                    self.canvas.lines(f"Layer {layer + 1} of {layers}", bands, frame),
                )


def _some(bands: dict[str, Band | None]) -> dict[str, Band]:
    return {label: band for label, band in bands.items() if band is not None}


def _beyond(band: Band | None) -> Band | None:
    """The band over distance + 1, so that the token itself has a place on a logarithmic axis; what has no
    weight is left out."""
    held = [(x + 1, mean) for x, mean in zip(band.x, band.mean, strict=True) if mean > 0] if band else []
    return Band([x for x, _ in held], [mean for _, mean in held], [0.0] * len(held)) if held else None
