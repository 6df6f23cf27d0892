"""What training does not log of a run: proofs of pairing, loss by position, longer texts, attention, cost.

All of it is deterministic but the cost, and needs nothing but the run's folder and its text.

    python -m gptkit.compare.measure RUN_DIR --lengths 0.25,0.5,1,2,4
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gptkit import files
from gptkit.compare.proof import proof
from gptkit.compare.results import MEASURES
from gptkit.errors import GptkitError, UserError
from gptkit.run import TOKENIZER, Run
from gptkit.text.batches import IGNORED, batch, evaluation_windows
from gptkit.text.shards import Dataset, prepare
from gptkit.train.data import Documents

if TYPE_CHECKING:
    from gptkit.model.gpt import GPT

LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_SCORED = 4_096  # tokens of the evaluation text that longer texts are scored on
_PLACED = 16_384  # tokens that loss by position is a mean of, evenly spaced windows of the text
_AT_ONCE = 1 << 22  # logits held at a time
_SCORES = 2 << 30  # bytes that one layer's attention scores may take in a text longer than the context
_WINDOWS, _DECODED, _REPEATS = 8, 48, 3


def measure(run: Run, lengths: Sequence[float] = LENGTHS) -> dict[str, Any]:
    """Everything that is measured of a finished run.

    Args:
        run: with a config and weights.
        lengths: of texts, as multiples of the context that it was trained on.

    Raises:
        GptkitError: it cannot be loaded, or its text is gone.
    """
    import gptkit

    config = run.config()
    data = prepare(config, run.path / TOKENIZER)
    model = gptkit.load(run.path).eval()
    reading = Reading(model, data)
    context = model.shape.context_length
    found: dict[str, Any] = {"proof": proof(config, data)}
    if data.val_split and data.val_split.scored is None:
        found["loss_by_position"] = by_position(reading, context)
        found["lengths"] = longer(reading, [max(1, round(f * context)) for f in lengths], lengths)
        seen = attention_by_distance(model, reading, context)
        if seen:
            found["attention_by_distance"] = seen
    found["cost"] = cost(model, run)
    return found


def write(run: Run, lengths: Sequence[float] = LENGTHS) -> None:
    """Measure a run, and keep it in its folder.

    Raises:
        GptkitError: as of `measure`.
    """
    files.write_json(run.path / MEASURES, measure(run, lengths))


class Reading:
    """A model at its evaluation text.

    Args:
        model: in evaluation mode.
        data: whose validation split is read.
    """

    def __init__(self, model: GPT, data: Dataset) -> None:
        self.model, self.split = model, data.val_split
        self.documents = Documents(model, data.tokenizer.end_of_text)
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def losses(self, starts: np.ndarray, length: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Nats of each next token in windows of some length, and which count: [W, length] each, in parts."""
        rows = max(1, _AT_ONCE // (length * self.model.shape.vocab_size))
        for first in range(0, len(starts), rows):
            inputs, targets = batch(self.split, starts[first : first + rows], length)
            given = self.documents.batch(inputs.to(self.device), targets.to(self.device))
            logits = self.model(given.tokens, documents=given.documents).float()
            nats = F.cross_entropy(
                logits.flatten(0, 1), given.targets.flatten(), ignore_index=IGNORED, reduction="none"
            )
            yield nats.view(given.targets.shape).double().cpu(), (given.targets != IGNORED).cpu()


def by_position(reading: Reading, context: int) -> dict[str, Any]:
    """Mean loss at each place of the context, in bins that widen: first places of bins, nats, counts."""
    starts = evaluation_windows(reading.split, context)
    if len(starts) * context > _PLACED:
        starts = starts[np.linspace(0, len(starts) - 1, max(1, _PLACED // context)).round().astype(np.int64)]
    total, count = torch.zeros(context, dtype=torch.float64), torch.zeros(context, dtype=torch.float64)
    for nats, counts in reading.losses(starts, context):
        total += (nats * counts).sum(0)
        count += counts.sum(0)
    edges = sorted(
        {*range(min(8, context)), *(int(e) for e in np.geomspace(8, context, 25)[:-1] if e < context)}
    )
    spans = list(zip(edges, [*edges[1:], context], strict=True))
    sums = [(float(total[a:b].sum()), float(count[a:b].sum())) for a, b in spans]
    return {
        "positions": [a for a, _ in spans],
        "loss": [t / n if n else math.nan for t, n in sums],
        "count": [int(n) for _, n in sums],
    }


def longer(reading: Reading, sizes: Sequence[int], factors: Sequence[float]) -> list[dict[str, Any]]:
    """Loss on texts of several lengths, the same tokens scored at each.

    Two ways that papers confuse: `non_overlapping` cuts the text, so that a token has half of the length
    before it on average; `sliding` gives each token at least three quarters of it. `early` is the mean over
    the first quarter of the trained context in the first way: its dearest places. A length that the model
    itself cannot read is `refused`; one for which the text or the memory does not suffice is `skipped`.
    """
    context, room = reading.model.shape.context_length, len(reading.split.tokens) - 1
    fit = max((size for size in sizes if 2 * size <= room), default=0)
    end = fit + max(1, min(_SCORED, room - fit) // max(1, fit)) * fit  # at least one text of the longest
    found = []
    for factor, size in zip(factors, sizes, strict=True):
        row: dict[str, Any] = {"factor": factor, "tokens": size}
        if size > fit:
            row["skipped"] = f"the evaluation text has {room:,} tokens, too few for texts of {size:,}"
            found.append(row)
            continue
        scores = 4 * reading.model.shape.n_heads * size * size
        if size > context and scores > _SCORES:
            row["skipped"] = f"the scores of {size:,} tokens may take {scores / 2**30:.1f} GiB"
            found.append(row)
            continue
        try:
            row |= _at_length(reading, size, fit, end, context)
        except GptkitError as error:
            row["refused"] = " ".join(str(error).split())
        found.append(row)
    return found


def _at_length(reading: Reading, size: int, first: int, end: int, context: int) -> dict[str, Any]:
    """Both ways of reading texts of `size` tokens, scored on the tokens from `first` to `end`."""
    cut, early = _Mean(), _Mean()
    for nats, counts in reading.losses(np.arange(first, end, size, dtype=np.int64), size):
        cut.add(nats, counts)
        quarter = max(1, context // 4)
        early.add(nats[:, :quarter], counts[:, :quarter])
    stride, slid = max(1, size // 4), _Mean()
    starts = np.arange(first + stride - size, end + stride - size, stride, dtype=np.int64)
    for nats, counts in reading.losses(starts[starts >= 0], size):
        slid.add(nats[:, -stride:], counts[:, -stride:])
    means = {"non_overlapping": cut, "sliding": slid, "early": early}
    if not all(math.isfinite(mean.value) for mean in means.values()):
        return {"refused": "the loss is not a finite number at this length"}
    counts = {f"{key}_tokens": int(mean.count) for key, mean in means.items()}
    return {**{key: mean.value for key, mean in means.items()}, **counts}


class _Mean:
    """A mean over what counts."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0.0

    def add(self, nats: Tensor, counts: Tensor) -> None:
        self.total += float((nats * counts).sum())
        self.count += float(counts.sum())

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else math.nan


@torch.no_grad()
def attention_by_distance(model: GPT, reading: Reading, context: int) -> dict[str, Any] | None:
    """Mean attention weight at each distance back, in bins that double, for each layer; None where an
    attention shows no pattern."""
    starts = evaluation_windows(reading.split, context)[:-1][:_WINDOWS]
    if not len(starts):
        return None
    inputs, targets = batch(reading.split, starts, context)
    given, patterns = reading.documents.batch(inputs.to(reading.device), targets.to(reading.device)), []
    try:
        model(given.tokens, documents=given.documents, patterns=patterns)
    except UserError:
        return None
    patterns = [p for p in patterns if p.shape[-2:] == (context, context)]
    if not patterns:
        return None
    edges = [0, *(1 << k for k in range(context.bit_length()) if 1 << k < context)]
    layers = []
    for pattern in patterns:
        mean = pattern.double().mean((0, 1)).cpu()  # [T, T]
        away = [float(mean.diagonal(-d).mean()) for d in range(context)]
        spans = zip(edges, [*edges[1:], context], strict=True)
        layers.append([statistics.fmean(away[a:b]) for a, b in spans])
    return {"distances": edges, "layers": layers}


def cost(model: GPT, run: Run) -> dict[str, Any]:
    """What a run cost to train, and what its model costs to use."""
    from gptkit.model.cost import cache_bytes, flops_per_token

    rows = [row for row in _rows(run) if row.get("loss") is not None and row.get("seconds") is not None]
    steps = [
        (b["seconds"] - a["seconds"]) / (b["step"] - a["step"])
        for a, b in itertools.pairwise(rows)
        if b["step"] > a["step"]
    ]
    result, context = run.result() or {}, model.shape.context_length
    found: dict[str, Any] = {
        "parameters": model.n_parameters(),
        "flops_per_token": flops_per_token(model),
        "cache_bytes_per_token": cache_bytes(model, context + 1) - cache_bytes(model, context),
        "milliseconds_per_step": 1e3 * statistics.median(steps) if steps else None,
        "tokens_per_second": result.get("tokens_per_second"),
        "peak_bytes": max((row["memory_bytes"] for row in rows if row.get("memory_bytes")), default=None),
        "decode_tokens_per_second": _decoding(model),
    }
    return {key: value for key, value in found.items() if value is not None}


def _rows(run: Run) -> list[dict[str, Any]]:
    try:
        lines = (run.path / "metrics.jsonl").read_text("utf-8").splitlines()
        rows = [files.parse_json(line.encode()) for line in lines if line.strip()]
    except (OSError, ValueError):
        return []
    return [row for row in rows if isinstance(row, dict)]


@torch.no_grad()
def _decoding(model: GPT) -> float | None:
    """Tokens a second with a cache, the quickest of some; None where a cache cannot serve."""
    from gptkit.generate.reader import is_causal, window

    more = min(_DECODED, window(model) - 1)
    if more < 1 or not is_causal(model):
        return None
    device, best = next(model.parameters()).device, math.inf
    x = torch.zeros(1, 1, dtype=torch.long, device=device)
    for _ in range(_REPEATS):
        caches = model.new_caches(1, more + 1)
        model(x, caches=caches)
        best = min(best, _timed(lambda c=caches: [model(x, caches=c, last_only=True) for _ in range(more)]))
    return more / best


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def factors(text: str) -> list[float]:
    """Positive multiples of the context, from `0.5,1,2`; argparse words what is not."""
    found = [float(part) for part in text.split(",")]
    if not all(0 < factor < 1e6 for factor in found):
        raise ValueError
    return found


def main(words: Sequence[str]) -> int:
    """Measure the run whose folder is given; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m gptkit.compare.measure", description="Measure a finished run."
    )
    parser.add_argument("run", help="its folder")
    parser.add_argument("--lengths", type=factors, default=LENGTHS, help="multiples of the context: 0.5,1,2")
    given = parser.parse_args(words)
    try:
        write(Run(given.run), given.lengths)
    except GptkitError as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
