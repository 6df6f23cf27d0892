"""How each variant is told positions: pictures of the trained parts, and scores by distance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gptkit.compare import series
from gptkit.compare.results import Results, Trained
from gptkit.compare.series import Band
from gptkit.errors import GptkitError

if TYPE_CHECKING:
    from torch import Tensor

    from gptkit.compare.canvas import Canvas
    from gptkit.compare.ink import Plot
    from gptkit.model.gpt import GPT

MOST_POSITIONS = 128
LARGEST = 200_000_000  # parameters of a model that is loaded for its picture


def plots(results: Results, canvas: Canvas, labels: Sequence[str]) -> Iterator[tuple[str, Plot]]:
    """What each different `model.position` adds, turns or biases; nothing where all are the same.

    Args:
        results: the sweep.
        canvas: with the colours of its variants.
        labels: the variants that are drawn.
    """
    runs = _different(results, labels)
    if len(runs) < 2:
        return
    import torch

    from gptkit.compare.canvas import Frame
    from gptkit.compare.ink import heat
    from gptkit.view.sights import told

    alike: dict[str, Band] = {}
    turned: dict[str, Band] = {}
    number = 0
    for label, run in runs.items():
        model = _model(run)
        if model is None:
            continue
        position, shape = model.position, model.shape
        end = min(MOST_POSITIONS, shape.context_length, position.max_positions or MOST_POSITIONS)
        at = torch.arange(end).unsqueeze(0)
        learned = f", as trained with seed {run.seed}" if any(True for _ in position.parameters()) else ""
        with torch.no_grad():
            for sight in told(position, label, "", shape, end, state=""):
                title = f"{label}: {sight.note}{learned}"
                yield (
                    f"encoding-{number:02d}",
                    heat(title, sight.matrix, sight.across, sight.down, end, power=sight.power),
                )
                number += 1
            added = position.embed(torch.zeros(1, end, shape.d_model), at)[0].double()
            if added.any():
                alike[label] = _by_distance(added @ added.T)
            q = torch.randn(shape.d_head, generator=torch.Generator().manual_seed(1))
            k = torch.randn(shape.d_head, generator=torch.Generator().manual_seed(2))
            q_all, k_all = (x.expand(1, n, end, -1) for x, n in ((q, shape.n_heads), (k, shape.n_kv_heads)))
            q_all, k_all = position.rotate(q_all, k_all, at, at)
            scores = (q_all[0, 0] @ k_all[0, 0].T).double()
            if (scores - scores[0, 0]).abs().max() > 1e-4:
                turned[label] = _by_distance(scores / shape.d_head**0.5)
    if alike:
        # a learned table's numbers are small beside a sine's: each has a scale of its own, that of distance 0
        ones = ", ".join(f"{band.mean[0]:.3g} with {label}" for label, band in alike.items())
        title = f"Dot products of the vectors added, mean by distance; 1 is {ones}"
        shares = {label: _relative(band) for label, band in alike.items()}
        yield (
            "encoding-products",
            canvas.lines(title, shares, Frame("distance, tokens", "share of distance 0")),
        )
    if turned:
        title = "The score of one query and key drawn at random, mean by distance"
        yield "encoding-scores", canvas.lines(title, turned, Frame("distance, tokens", "score"))


def _different(results: Results, labels: Sequence[str]) -> dict[str, Trained]:
    """The first run of each variant whose position part no variant before it has."""
    found: dict[str, Trained] = {}
    seen: list[Any] = []
    for label in labels:
        for run in series.runs_of(results, label)[:1]:
            section = run.config.get("model")
            node = section.get("position") if isinstance(section, Mapping) else None
            if node is not None and node not in seen:
                seen.append(node)
                found[label] = run
    return found


def _model(run: Trained) -> GPT | None:
    """The trained model; None where the folder is gone, holds none, or holds a great one."""
    parameters = series.number(run.result.get("parameters"))
    if not parameters <= LARGEST or not run.path.is_dir():
        return None
    from gptkit.load import load

    try:
        return load(run.path.resolve())
    except (GptkitError, OSError):
        return None


def _relative(band: Band) -> Band:
    """With the first mean as 1: vectors that are added have products with themselves above 0."""
    return Band(band.x, [mean / band.mean[0] for mean in band.mean], band.sd)


def _by_distance(matrix: Tensor) -> Band:
    """Means of the diagonals below the main one: query minus key is 0, 1, 2, ..."""
    far = range(len(matrix))
    return Band([float(d) for d in far], [float(matrix.diagonal(-d).mean()) for d in far], [0.0] * len(far))
