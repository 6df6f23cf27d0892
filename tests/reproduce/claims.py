"""What papers report, and how it is judged here. Each claim is a function of the sweeps that it needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gptkit.compare.results import Results, Trained
from gptkit.compare.series import number
from reproduce import readings
from reproduce.judging import Finding, Scores, alike, fact, lower

Sweeps = Mapping[str, Results]


@dataclass(frozen=True)
class Claim:
    """Something that is known.

    Attributes:
        title: the claim in a sentence.
        source: who reports it.
        sweeps: the names of those that it is judged by.
        judge: their findings; the claim holds where all of these do.
        plots: of the sweeps' reports, as `sweep/name`.
        told: what to know when reading it.
        why_not: why it may not hold here, for when it does not.
    """

    title: str
    source: str
    sweeps: Sequence[str]
    judge: Callable[[Sweeps], list[Finding]]
    plots: Sequence[str] = ()
    told: str = ""
    why_not: str = ""


def scores(results: Results, label: str, read: Callable[[Trained], float]) -> Scores:
    """A number of each finished run of a variant, by seed; those that are none left out."""
    found = {seed: read(run) for seed, run in results.finished(label).items()}
    return {seed: value for seed, value in found.items() if math.isfinite(value)}


def loss(run: Trained) -> float:
    """Validation loss at the end, in nats."""
    return number(run.result.get("val_loss"))


def halfway(run: Trained) -> float:
    """Validation loss at the first validation after half of the steps."""
    half = number(run.result.get("steps")) / 2
    rows = [row for row in run.rows if "val_loss" in row and number(row.get("step")) >= half]
    return number(rows[0]["val_loss"]) if rows else math.nan


def at(factor: float) -> Callable[[Trained], float]:
    """Loss on texts of a multiple of the trained context, in windows that do not overlap."""

    def read(run: Trained) -> float:
        rows = [row for row in run.measures.get("lengths", []) if row.get("factor") == factor]
        return number(rows[0].get("non_overlapping")) if rows else math.nan

    return read


def wrong(split: str, key: str = "token_accuracy") -> Callable[[Trained], float]:
    """The share of a split's answers, or of their tokens, that is not right."""
    return lambda run: 1 - number((run.result.get("splits") or {}).get(split, {}).get(key))


def order_without_positions(sweeps: Sweeps) -> list[Finding]:
    causal, full = sweeps["base"], sweeps["full"]
    none, learned = scores(causal, "none", loss), scores(causal, "learned", loss)
    alone = scores(sweeps["bigram"], "n_layers=0", loss)
    blind, seeing = scores(full, "none", loss), scores(full, "rotary", loss)
    return [
        lower(
            "it learns order", none, alone, ("causal, none", "zero layers, which read the last token alone")
        ),
        lower("it comes near", none, learned, ("causal, none", "causal, learned"), margin=0.25),
        lower(
            "what stands there is found by place alone",
            seeing,
            blind,
            ("full mask, rotary", "full mask, none"),
            -1.0,
        ),
    ]


def sinusoids_as_good(sweeps: Sweeps) -> list[Finding]:
    sinusoidal, learned = (scores(sweeps["scaled"], label, loss) for label in ("sinusoidal", "learned"))
    return [alike("validation loss", sinusoidal, learned, ("sinusoidal", "learned"), margin=0.05)]


KEPT = 0.05  # nats by which a loss that is kept may rise


def short_to_long(sweeps: Sweeps) -> list[Finding]:
    base = sweeps["base"]
    told = [
        lower(
            f"ALiBi keeps its loss at {factor:g} ×",
            scores(base, "alibi", at(factor)),
            scores(base, "alibi", at(1.0)),
            (f"at {factor:g} ×", "at 1 ×"),
            KEPT,
        )
        for factor in (2.0, 4.0, 8.0)
    ]
    for other in ("sinusoidal", "rotary"):
        told += [
            lower(
                f"{other} loses at {factor:g} ×",
                scores(base, other, at(1.0)),
                scores(base, other, at(factor)),
                ("its loss at 1 ×", f"at {factor:g} ×"),
                -KEPT,
            )
            for factor in (2.0, 4.0, 8.0)
        ]
    runs = base.finished("learned").values()
    refused = [
        run
        for run in runs
        if any("refused" in row for row in run.measures.get("lengths", []) if row.get("factor") == 2.0)
    ]
    return [
        *told,
        fact(
            f"learned positions refuse 2 × the context in {len(refused)} of {len(runs)} runs",
            0 < len(refused) == len(runs),
        ),
    ]


def rotary_learns_faster(sweeps: Sweeps) -> list[Finding]:
    base, names = sweeps["base"], ("rotary", "learned")
    return [
        lower(when, scores(base, "rotary", read), scores(base, "learned", read), names)
        for when, read in (("halfway", halfway), ("at the end", loss))
    ]


def none_generalises(sweeps: Sweeps) -> list[Finding]:
    """Holds if on some probe, at the first lengths that were not trained on, none beats both.

    The best of several probes is taken, so its p counts as many times (Bonferroni).
    """
    best: list[Finding] | None = None
    for probe in PROBES:
        results = sweeps[probe]
        split = first_unseen(results)
        pair = [
            lower(
                f"{probe}, {split}, wrong tokens",
                scores(results, "none", wrong(split)),
                scores(results, other, wrong(split)),
                ("none", other),
            )
            for other in ("rotary", "alibi")
        ]
        worst = max(math.inf if math.isnan(f.p) else f.p for f in pair)
        if best is None or worst < max(math.inf if math.isnan(f.p) else f.p for f in best):
            best = pair
    return [replace(finding, p=min(1.0, finding.p * len(PROBES))) for finding in best or []]


PROBES = ("copy", "reverse", "count")


def first_unseen(results: Results) -> str:
    """The shortest split of a length that was not trained on."""
    told: dict[str, int] = {}
    for run in results.runs:
        for name, facts in (run.result.get("splits") or {}).items():
            if not facts.get("trained", True):
                told[name] = facts["length"]
    return min(told, key=lambda name: told[name]) if told else "val"


def rotary_stretched(sweeps: Sweeps) -> list[Finding]:
    found = readings.stretched(sweeps["base"], "rotary", 4)
    plain, names = (
        found["rotary"],
        {"rotary_yarn": "YaRN", "rotary_linear": "interpolation", "rotary_ntk": "NTK-aware"},
    )
    return [
        lower("at 4 ×", found[kind], plain, (names[kind], "rotary as trained"))
        for kind in ("rotary_yarn", "rotary_ntk", "rotary_linear")
    ]


def bigram_floor(sweeps: Sweeps) -> list[Finding]:
    results = sweeps["bigram"]
    reached, floor = readings.bigrams(results, "n_layers=0")
    deeper, flat = scores(results, "n_layers=1", loss), scores(results, "n_layers=0", loss)
    least = min((value - floor[seed] for seed, value in reached.items()), default=math.nan)
    return [
        fact(
            f"no run lies below the entropy of the training text's bigrams: the least is {least:+.5f} nats above",
            least >= -1e-6,
        ),
        lower("it comes near", reached, floor, ("a zero-layer model", "the entropy"), margin=0.01),
        lower("a layer reads further, on the validation text", deeper, flat, ("one layer", "none")),
    ]


def induction(sweeps: Sweeps) -> list[Finding]:
    results = sweeps["layers"]
    one, two = scores(results, "n_layers=1", wrong("val")), scores(results, "n_layers=2", wrong("val"))
    half = dict.fromkeys(one, 0.5)
    quarter = dict.fromkeys(two, 0.25)
    return [
        lower("wrong tokens", two, one, ("two layers", "one layer")),
        lower("two layers can", two, quarter, ("wrong tokens", "a quarter")),
        lower("one layer cannot", half, one, ("half", "wrong tokens")),
    ]


CLAIMS: Mapping[int, Claim] = {
    1: Claim(
        "A causal decoder without positions learns and comes near the others; one that reads all tokens does not",
        "Haviv et al. 2022; the explainer: without positions attention cannot tell an order from another",
        ("base", "full", "bigram"),
        order_without_positions,
        ("base/curve-tokens",),
        "Under a full mask the next token stands in plain sight. A model with positions finds it, so its loss falls to "
        "almost nothing; without positions every order of the context looks the same, and the answer, which is among the "
        "tokens, cannot be told from them: its loss stays at least a nat higher. Near means within 0.25 nats of learned positions.",
        "The mean lies near the margin, and seeds scatter about it. In the paper the gap closes as models grow, from 125 million "
        "parameters to 1.3 billion; these have two layers and 600 steps, too few to learn places from the mask alone.",
    ),
    2: Claim(
        "Sinusoidal and learned positions cannot be told apart at the trained length",
        "Vaswani et al. 2017, table 3 row E",
        ("scaled",),
        sinusoids_as_good,
        ("scaled/ranking",),
        "As in the paper, embeddings are multiplied by the root of their width. No difference is not proof of none, so the "
        "statement is that they differ by less than 0.05 nats, by two one-sided tests. Runs are twice as long as elsewhere: a "
        "learned table starts near zero and lags at first.",
    ),
    3: Claim(
        "ALiBi keeps its loss at 2 to 8 times the trained length; sinusoidal, rotary and learned positions do not",
        "Press et al. 2022",
        ("base",),
        short_to_long,
        ("base/length-non-overlapping", "base/length-sliding"),
        "Kept means within 0.05 nats of the loss at the trained length, or better; lost means worse by more than that.",
    ),
    4: Claim(
        "Rotary positions learn faster than learned ones, at equal tokens",
        "Su et al. 2021; Biderman et al. 2021",
        ("base",),
        rotary_learns_faster,
        ("base/curve-tokens",),
    ),
    5: Claim(
        "On some probe, a model without positions does better on unseen lengths than rotary and ALiBi",
        "Kazemnejad et al. 2023",
        PROBES,
        none_generalises,
        tuple(f"{probe}/probe-token-accuracy" for probe in PROBES),
        "Judged by the tokens of answers at the first length that was not trained on; the probe where it comes nearest is "
        "shown. The paper's models are larger and trained longer.",
        "Seeds scatter by more than variants differ, so that no order can be shown. The paper's models have some 100 million "
        "parameters and know the trained lengths almost perfectly before they are asked for longer ones.",
    ),
    6: Claim(
        "Interpolated or YaRN frequencies recover rotary positions beyond the trained length",
        "Chen et al. 2023; Peng et al. 2023",
        ("base",),
        rotary_stretched,
        (),
        "The trained rotary models read 4 times their context, with no further training, as they are and with stretched "
        "frequencies: the weights and the scored tokens are the same, in windows that do not overlap. The papers train on a "
        "little after stretching (NTK-aware scaling aside), so this is the harder form.",
        "Interpolation squeezes the fast frequencies too, by which neighbours are told apart, and without training after it "
        "the model does not know them. YaRN leaves those be, as NTK-aware scaling nearly does, but sharpens the scores as well, "
        "by a factor that was fitted to large models and long contexts.",
    ),
    7: Claim(
        "A model of no layers reaches the entropy of its text's bigrams, and not below",
        "Elhage et al. 2021",
        ("bigram",),
        bigram_floor,
        (),
        "The entropy is exact, from counts; the loss is of the whole training text, read in windows of the context, so that "
        "a model that saw more than one character could fall below. Near means within 0.01 nats.",
    ),
    8: Claim(
        "Two layers of attention alone learn induction; one cannot",
        "Elhage et al. 2021; Olsson et al. 2022",
        ("layers",),
        induction,
        ("layers/probe-token-accuracy",),
        "Strings of different characters that begin again; the answer's tokens are counted. Attention alone, with layer norms "
        "and ALiBi; the paper's models have neither, and learn from far more text.",
        "Induction comes in a sudden step (Olsson et al. 2022), sooner or later by seed: seeds in which it is not "
        "complete by the last step raise the mean, and its interval more.",
    ),
}
