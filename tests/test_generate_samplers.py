"""Sampling distributions against plain loops and Hugging Face's processors, and drawing from them."""

import math
import random

import pytest
import torch

from gptkit.errors import UserError
from gptkit.generate import draw
from gptkit.generate.samplers import Greedy, Sample, Sampler
from tiny import close

TIMES = 25
ALMOST_ONE = 1 - 2**-53


def plain(scores, history=(), temperature=1.0, top_k=None, top_p=None, min_p=None, repetition_penalty=1.0):
    """The distribution of one row, one rule after another, in Python's own numbers."""
    scores = list(scores)
    for token in set(history):
        score = scores[token]
        scores[token] = score / repetition_penalty if score > 0 else score * repetition_penalty
    if temperature == 0:
        best = scores.index(max(scores))
        return [float(i == best) for i in range(len(scores))]
    scores = [score / temperature for score in scores]
    if top_k is not None:
        least = sorted(scores, reverse=True)[min(top_k, len(scores)) - 1]
        scores = [score if score >= least else -math.inf for score in scores]
    weights = [math.exp(score - max(scores)) for score in scores]
    p = [weight / math.fsum(weights) for weight in weights]
    if top_p is not None and top_p < 1:
        kept, mass = [0.0] * len(p), 0.0
        for i in sorted(range(len(p)), key=lambda i: (-p[i], i)):
            if mass == 0 or mass < top_p:
                kept[i] = p[i]
            mass += p[i]
        p = kept
    if min_p is not None:
        p = [share if share >= min_p * max(p) else 0.0 for share in p]
    return [share / math.fsum(p) for share in p]


def some_scores(seed, size=31, ties=False, holes=False):
    """Scores in float64; with values that come several times; with tokens that are ruled out."""
    drawn = random.Random(seed)
    scores = [drawn.gauss(0, 2.5) for _ in range(size)]
    if ties:
        scores = [float(round(score)) for score in scores]
    if holes:
        scores = [-math.inf if i % 3 == 1 else score for i, score in enumerate(scores)]
    return scores


def some_options(seed):
    """A random choice of every option, each left out now and then."""
    drawn = random.Random(seed)
    return {
        "temperature": drawn.choice([0.0, 1.0, drawn.uniform(0.1, 3.0)]),
        "top_k": drawn.choice([None, 1, drawn.randint(2, 30), 31, 500]),
        "top_p": drawn.choice([None, 0.0, 1.0, drawn.random()]),
        "min_p": drawn.choice([None, 0.0, 1.0, drawn.random() * 0.3]),
        "repetition_penalty": drawn.choice([1.0, drawn.uniform(0.5, 3.0)]),
    }


@pytest.mark.parametrize("seed", range(TIMES))
@pytest.mark.parametrize(("ties", "holes"), [(False, False), (True, False), (False, True), (True, True)])
def test_every_distribution_is_that_of_plain_loops(seed, ties, holes):
    options = some_options(seed)
    drawn = random.Random(seed + 1)
    rows = [some_scores(f"{seed}/{row}", ties=ties, holes=holes) for row in range(3)]
    history = [[drawn.randrange(31) for _ in range(length)] for length in (0, 4, 40)]
    ours = Sample(**options).probabilities(torch.tensor(rows, dtype=torch.float64), history)
    expected = [plain(row, past, **options) for row, past in zip(rows, history, strict=True)]
    close(ours, torch.tensor(expected, dtype=torch.float64))
    close(ours.sum(-1), torch.ones(3))


@pytest.mark.parametrize("seed", range(TIMES))
def test_every_distribution_is_that_of_hugging_face(seed):
    processors = pytest.importorskip("transformers.generation.logits_process")
    options = some_options(seed)
    options["temperature"] = options["temperature"] or 1.0
    rows = torch.tensor([some_scores(f"{seed}/{row}") for row in range(2)], dtype=torch.float64)
    history = torch.randint(0, 31, (2, 9), generator=torch.Generator().manual_seed(seed))
    chain = [
        processors.RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]),
        processors.TemperatureLogitsWarper(options["temperature"]),
        *([processors.TopKLogitsWarper(options["top_k"])] if options["top_k"] else []),
        *([processors.TopPLogitsWarper(options["top_p"])] if options["top_p"] is not None else []),
        *([processors.MinPLogitsWarper(options["min_p"])] if options["min_p"] is not None else []),
    ]
    scores = rows.clone()
    for process in chain:
        scores = process(history, scores)
    close(Sample(**options).probabilities(rows, history), scores.softmax(-1))


def test_the_defaults_of_the_rules_change_nothing():
    rows = torch.tensor([some_scores(1)], dtype=torch.float64)
    close(Sample(temperature=1.0).probabilities(rows), rows.softmax(-1))
    close(Sample(temperature=1.0, top_k=31, top_p=1.0, min_p=0.0).probabilities(rows), rows.softmax(-1))


def test_greedy_and_the_edges_are_one_token_the_lowest_of_equals():
    rows = torch.tensor([[1.0, 3.0, 3.0, -math.inf], [0.0, 0.0, 0.0, 0.0]])
    expected = torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    for sampler in (Greedy(), Sample(temperature=0), Sample(top_p=0.0), Sample(temperature=0.0, top_k=2)):
        close(sampler.probabilities(rows), expected)
        for uniform in ([0.0, 0.0], [0.7, 0.7], [ALMOST_ONE, ALMOST_ONE]):
            assert sampler.draw(rows, [[], []], uniform).tolist() == [1, 0]


def test_equals_at_the_border_are_all_kept_by_top_k_and_the_fewest_by_top_p():
    rows = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    assert Sample(top_k=2).probabilities(rows).ne(0).tolist() == [[True, True, True, True, False]]
    even = torch.zeros(1, 10, dtype=torch.float64)
    assert Sample(top_p=0.35).probabilities(even).ne(0).sum() == 4
    assert Sample(top_p=0.35).probabilities(even).ne(0)[0, :4].all()


def test_one_token_with_all_the_mass():
    rows = torch.full((1, 5), -math.inf)
    rows[0, 3] = -7.0
    for options in ({}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 1.0}, {"temperature": 1e-30}):
        assert Sample(**options).probabilities(rows).tolist() == [[0.0, 0.0, 0.0, 1.0, 0.0]]
        assert Sample(**options).draw(rows, None, [ALMOST_ONE]).tolist() == [3]


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-5, 1e5, 1e308])
def test_no_temperature_overflows(temperature):
    scores = torch.tensor([[-1e4, 3.0, 9e3, 9e3 + 1]], dtype=torch.float64)
    p = Sample(temperature=temperature).probabilities(scores)
    close(p.sum(), 1.0)
    assert p[0, 3] == p.max()


def test_sixteen_bits_are_computed_in_thirty_two():
    rows = torch.tensor([some_scores(2)]).bfloat16()
    p = Sample(top_p=0.9).probabilities(rows)
    assert p.dtype == torch.float32
    close(p, Sample(top_p=0.9).probabilities(rows.float()))
    assert Greedy().probabilities(rows).dtype == torch.float32


def test_the_scores_that_are_given_are_left_as_they_are():
    rows = torch.tensor([some_scores(3)])
    before = rows.clone()
    sampler = Sample(temperature=0.5, top_k=4, top_p=0.5, min_p=0.1, repetition_penalty=2.0)
    sampler.probabilities(rows, [[1, 2]])
    sampler.draw(rows, [[1, 2]], [0.5])
    assert torch.equal(rows, before)


def test_the_penalty_passes_over_what_is_no_token():
    rows = torch.tensor([some_scores(4)] * 2, dtype=torch.float64)
    sampler = Sample(repetition_penalty=1.7)
    padded = torch.tensor([[-1, -1, 3, 99], [5, 3, 3, -1]])
    close(sampler.probabilities(rows, padded), sampler.probabilities(rows, [[3], [3, 5]]))
    close(sampler.probabilities(rows, None), sampler.probabilities(rows, [[], []]))


@pytest.mark.parametrize("seed", range(12))
def test_draws_fall_on_each_token_as_often_as_it_is_probable(seed):
    options = {**some_options(seed), "temperature": 1.5}
    rows = torch.tensor([some_scores(seed, ties=seed % 2 == 0)], dtype=torch.float64)
    sampler, times = Sample(**options), 5000
    p = sampler.probabilities(rows)[0]
    grid = [(i + 0.5) / times for i in range(times)]
    drawn = sampler.draw(rows.expand(times, -1), [[]] * times, grid)
    counts = torch.bincount(drawn, minlength=31)
    assert ((counts - p * times).abs() <= 1 + 1e-6).all()
    assert not counts[p == 0].any()


@pytest.mark.parametrize("seed", range(TIMES))
@pytest.mark.parametrize("ties", [False, True])
def test_the_short_way_of_top_k_draws_the_same_tokens(seed, ties):
    options = {**some_options(seed), "top_k": random.Random(seed).randint(1, 30)}
    rows = torch.tensor([some_scores(f"{seed}/{row}", ties=ties, holes=row == 1) for row in range(4)])
    sampler, history = Sample(**options), [[1, 2], [3], [], [4] * 5]
    drawn = random.Random(seed)
    for uniform in ([0.0] * 4, [ALMOST_ONE] * 4, *([drawn.random() for _ in range(4)] for _ in range(20))):
        expected = Sampler.draw(sampler, rows.double(), history, uniform)
        assert sampler.draw(rows.double(), history, uniform).tolist() == expected.tolist()


def test_a_token_without_probability_is_never_drawn():
    p = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]])
    assert [draw.inverse(p, [u]).item() for u in (0.0, 0.2499, 0.2501, 0.9, ALMOST_ONE)] == [1, 1, 3, 3, 3]


@pytest.mark.parametrize(
    "sampler", [Greedy(), Sample(), Sample(top_k=2), Sample(top_p=0.5), Sample(temperature=0)]
)
@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_scores_that_are_no_numbers_give_no_token_and_spare_the_other_rows(sampler, bad):
    rows = torch.tensor([[bad] * 4, [0.0, 0.0, 9e4, 0.0]])
    assert sampler.draw(rows, [[], []], [0.5, 0.5]).tolist() == [-1, 2]
    p = sampler.probabilities(rows)
    assert p[0].isnan().any()
    assert p[1].tolist() == [0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999, 1.0])
def test_a_large_vocabulary_is_cut_the_same_without_sorting_it(share, monkeypatch):
    scores = torch.randn(2, 3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = torch.cat([(3 * scores).softmax(-1), scores.round().softmax(-1)])  # the latter full of equals
    monkeypatch.setattr(draw, "_FEW", (20, 300))
    short = draw.nucleus(p, share)
    monkeypatch.setattr(draw, "_FEW", ())
    assert torch.equal(short, draw.nucleus(p, share))
    assert (p * short).sum(-1).ge(share - 1e-12).all()


def test_a_share_that_is_met_exactly_takes_no_further_token():
    p = torch.tensor([[0.25, 0.5, 0.125, 0.125]])
    kept = {share: draw.nucleus(p, share)[0].int().tolist() for share in (0.0, 0.5, 0.51, 0.75, 0.875, 1.0)}
    assert kept == {
        0.0: [0, 1, 0, 0], 0.5: [0, 1, 0, 0], 0.51: [1, 1, 0, 0], 0.75: [1, 1, 0, 0], 0.875: [1, 1, 1, 0],
        1.0: [1, 1, 1, 1],
    }  # fmt: skip


BAD = {
    "temperature": [-0.1, math.nan, math.inf, "hot", None, True],
    "top_k": [0, -3, 2.5, math.inf, "all", False],
    "top_p": [-0.1, 1.1, math.nan, "most"],
    "min_p": [-1e-9, 1.5, -math.inf],
    "repetition_penalty": [0, -1.0, math.nan, math.inf, None],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_number_out_of_range_is_told_with_its_range(name, value):
    with pytest.raises(UserError, match=rf"sampler\.{name}: expected a .*number .*got {value!r}"):
        Sample(**{name: value})
