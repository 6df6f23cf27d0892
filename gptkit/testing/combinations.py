"""Whether parts that are sound alone are sound together: every pair, or every triple of those that meet in attention.

    python -m gptkit.testing.combinations pairs
    python -m gptkit.testing.combinations product out=combinations.md

Position, attention and mask meet inside one formula, so `product` takes each with each; norms, networks
and blocks go round so that each of them meets each of the others too.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptkit import registry
from gptkit.errors import GptkitError, UserError

Combination = Mapping[str, str]  # the name of a part in each of `MEETING`
MEETING = ("position", "attention", "mask", "norm", "feed_forward", "block")
PLAIN = {
    "position": "none", "attention": "multi_head", "mask": "causal", "norm": "layer", "feed_forward": "mlp",
    "block": "pre",
}  # fmt: skip
_STEPS, _NEAR = 5, 1e-9


@dataclass(frozen=True)
class Trial:
    """What came of one combination.

    Attributes:
        parts: the name in each slot.
        status: sound; refused, by one of gptkit's own errors; or failed.
        told: why.
    """

    parts: Combination
    status: Literal["sound", "refused", "failed"]
    told: str = ""


def parts() -> dict[str, list[str]]:
    """The names that each of the meeting slots offers."""
    return {field: registry.names(f"model.{field}") for field in MEETING}


def pairs(offered: Mapping[str, Sequence[str]]) -> list[Combination]:
    """Few combinations in which every two parts of different slots stand together at least once.

    Greedy: each one begins with a pair that is still missing and takes, slot by slot, the part that
    brings most missing pairs along.
    """
    fields = list(offered)
    missing = {
        ((a, x), (b, y))
        for a, b in itertools.combinations(fields, 2)
        for x, y in itertools.product(offered[a], offered[b])
    }
    found: list[Combination] = []
    order = sorted(missing)
    while missing:
        first = next(pair for pair in order if pair in missing)
        chosen = dict(first)
        for field in sorted(set(fields) - set(chosen), key=fields.index):
            chosen[field] = max(
                offered[field], key=lambda name: _brings(chosen, field, name, fields, missing)
            )
        found.append({field: chosen[field] for field in fields})
        missing -= set(itertools.combinations([(field, chosen[field]) for field in fields], 2))
        order = [pair for pair in order if pair in missing]
    return found


def _brings(chosen: Combination, field: str, name: str, fields: Sequence[str], missing: set) -> int:
    """How many missing pairs a part would bring to those chosen already."""
    both = [
        sorted([(field, name), (f, n)], key=lambda entry: fields.index(entry[0])) for f, n in chosen.items()
    ]
    return sum(tuple(pair) in missing for pair in both)


def not_met(trials: Iterable[Trial], offered: Mapping[str, Sequence[str]]) -> list[Combination]:
    """Every pair that stands in no sound one of these trials, each beside plain parts.

    A combination may be refused for one pair in it, and its others are then untried.
    """
    met = {pair for t in trials if t.status == "sound" for pair in itertools.combinations(t.parts.items(), 2)}
    return [
        {**PLAIN, a: x, b: y}
        for a, b in itertools.combinations(offered, 2)
        for x, y in itertools.product(offered[a], offered[b])
        if ((a, x), (b, y)) not in met
    ]


def product(offered: Mapping[str, Sequence[str]]) -> Iterator[Combination]:
    """Each position with each attention with each mask; the other parts go round."""
    rest = itertools.cycle(itertools.product(*(offered[field] for field in MEETING[3:])))
    for first in itertools.product(*(offered[field] for field in MEETING[:3])):
        yield dict(zip(MEETING, (*first, *next(rest)), strict=True))


def attempt(combination: Combination) -> Trial:
    """Build a small model and try it: causality, the cache, its state as a file, a few steps of training."""

    try:
        _try(combination)
    except GptkitError as error:
        return Trial(combination, "refused", " ".join(str(error).split()))
    except AssertionError as error:
        return Trial(combination, "failed", str(error))
    except Exception as error:
        return Trial(combination, "failed", f"{type(error).__name__}: {error}")
    return Trial(combination, "sound")


def _try(combination: Combination) -> None:
    import torch
    from safetensors.torch import load, save

    from gptkit.model import assemble
    from gptkit.testing.subject import CONTEXT, SIZES, close, stir, tokens

    nodes = {field: _node(field, name) for field, name in combination.items()}
    config = {"model": {**SIZES, **nodes}, "seed": 1}
    model, x = stir(assemble.build(config).double()).eval(), tokens(2, CONTEXT)
    with torch.no_grad():
        full = model(x)
        assert full.isfinite().all(), "Its logits are not finite."
        changed = x.clone()
        changed[:, 6:] = (changed[:, 6:] + 1) % model.shape.vocab_size
        close(model(changed)[:, :6], full[:, :6], "A later token changed the logits before it.", within=_NEAR)
        for cut in (1, 7):
            caches = model.new_caches(2, CONTEXT)
            read = [model(x[:, :cut], caches=caches)]
            read += [model(x[:, i : i + 1], caches=caches) for i in range(cut, CONTEXT)]
            close(
                torch.cat(read, dim=1), full, f"Decoded from token {cut} on, the logits differ.", within=_NEAR
            )
        twin = assemble.build(config, initialise_weights=False).double().eval()
        twin.load_state_dict(load(save({k: v.contiguous().clone() for k, v in model.state_dict().items()})))
        assert torch.equal(twin(x), full), "Its state, saved and loaded, computes something else."
    learner = assemble.build(config).train()
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-3)
    losses = []
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for _ in range(_STEPS + 1):
            loss = learner.loss(x[:, :-1], x[:, 1:])
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert losses[-1] < losses[0], f"{_STEPS} steps took the loss from {losses[0]:.4f} to {losses[-1]:.4f}."


def _node(field: str, name: str) -> dict:
    """A part as a config names it, with options where it needs some; a mask stands beside the causal one."""
    component = registry.find(f"model.{field}", name)
    needs = any(option.required for option in component.declaration.options)
    options = dict(component.load().examples[0]) if needs else {}  # type: ignore[attr-defined]
    return {"causal": {}, name: options} if field == "mask" else {"name": name, **options}


def attempt_all(combinations: Sequence[Combination], *, jobs: int | None = None) -> Iterator[Trial]:
    """Try many, in as many processes as there are cores; in order."""
    jobs = jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs == 1 or not combinations:
        yield from map(attempt, combinations)
        return
    with ProcessPoolExecutor(jobs, initializer=_one_thread) as pool:
        yield from pool.map(attempt, combinations, chunksize=16)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def report(trials: Iterable[Trial], offered: Mapping[str, Sequence[str]]) -> str:
    """A page of Markdown: how many, what failed, and each reason to refuse with how often it was given."""
    trials = list(trials)
    counts = Counter(trial.status for trial in trials)
    lines = [
        "# Parts in combination", "",
        f"{len(trials):,} combinations: {counts['sound']:,} sound, {counts['refused']:,} refused, "
        f"{counts['failed']:,} failed.", "",
        "| slot | parts |", "|---|---|",
        *(f"| `model.{field}` | {', '.join(f'`{name}`' for name in names)} |" for field, names in offered.items()),
    ]  # fmt: skip
    failed = [trial for trial in trials if trial.status == "failed"]
    if failed:
        lines += ["", "## Failed", "", *(f"- {_words(t.parts)}: {t.told}" for t in failed)]
    reasons = Counter(trial.told for trial in trials if trial.status == "refused")
    if reasons:
        lines += ["", "## Refused", "", "| times | reason |", "|---|---|"]
        lines += [f"| {times:,} | {told.replace('|', '/')} |" for told, times in reasons.most_common()]
    return "\n".join(lines) + "\n"


def _words(combination: Combination) -> str:
    return " ".join(f"{field}={name}" for field, name in combination.items())


def main(words: Sequence[str]) -> int:
    """Try them, show how far it is, write the table; 1 if one failed."""
    from rich.console import Console
    from rich.progress import track

    which, *more = [word for word in words if not word.startswith("out=")] or ["product"]
    if more or which not in {"pairs", "product"}:
        raise UserError("Say `pairs` or `product`, and perhaps out=FILE.")
    out = next((Path(word[4:]) for word in words if word.startswith("out=")), None)
    offered = parts()
    console = Console(stderr=True)

    def tried(combinations: Sequence[Combination]) -> list[Trial]:
        return list(
            track(
                attempt_all(combinations), description=which, total=len(combinations), console=console,
                disable=not console.is_terminal,
            )
        )  # fmt: skip

    trials = tried(pairs(offered) if which == "pairs" else list(product(offered)))
    if which == "pairs":
        trials += tried(not_met(trials, offered))
    page = report(trials, offered)
    if out is not None:
        out.write_text(page, "utf-8")
    print(page)
    return int(any(trial.status == "failed" for trial in trials))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except GptkitError as problem:
        print(problem, file=sys.stderr)
        sys.exit(problem.exit_code)
