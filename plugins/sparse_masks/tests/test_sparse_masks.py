"""Each pattern against loops over pairs, alone and with `causal`, in kernels and in cached decoding."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import gptkit
from gptkit.errors import ConfigError
from gptkit.model.assemble import build, part
from gptkit.model.interfaces import Mask, MaskContext, PositionalEncoding
from gptkit.model.kernels import flex_closures
from gptkit.model.masks import Causal, SlidingWindow, dense
from gptkit.train.data import Documents

LENGTH = 24
DOCUMENTS = torch.tensor([[0] * 9 + [1] * 15, [0] * 3 + [1] * 4 + [2] * 17])
PREFIX = torch.tensor([5, 0])
PLACES = torch.tensor([[*range(9), *range(15)], [*range(3), *range(4), *range(17)]])
CONTEXT = MaskContext(None, DOCUMENTS, DOCUMENTS, PREFIX, PLACES)


def hashed(seed: int, i: int, j: int) -> int:
    """The same on Python's whole numbers, byte order and wrap-around spelt out."""
    word = seed & 0xFFFFFFFF
    for entry in (0, i, j):
        word ^= entry
        for _ in range(2):
            word ^= word >> 16
            word = word * 73_244_475 & 0xFFFFFFFF
        word ^= word >> 16
    return word


def bigbird(i: int, j: int) -> bool:
    return abs(i - j) <= 1 or min(i, j) < 1 or hashed(7, i, j) / 2**32 < 0.25


Pair = Callable[[int, int], bool]
CASES: list[tuple[str, dict[str, Any], Pair]] = [
    ("dilated", {"window": 3, "dilation": 2}, lambda q, k: q - k in (-4, -2, 0, 2, 4)),
    ("dilated", {"window": 4, "dilation": 1}, lambda q, k: abs(q - k) <= 3),
    ("sink_window", {"window": 3, "sinks": 2}, lambda q, k: k in (0, 1, q - 2, q - 1, q, q + 1, q + 2)),
    ("sink_window", {"window": 1, "sinks": 0}, lambda q, k: k == q),
    ("global_tokens", {"count": 2, "window": 2}, lambda q, k: q in (0, 1) or k in (0, 1, q - 1, q, q + 1)),
    ("strided", {"stride": 4}, lambda q, k: abs(q - k) <= 4 or k in range(q % 4, LENGTH, 4)),
    ("fixed", {"block": 5, "summary": 2}, lambda q, k: q // 5 == k // 5 or k % 5 in (3, 4)),
    ("chunked", {"chunk": 5}, lambda q, k: k in range(q - q % 5, q - q % 5 + 5)),
    ("block_sparse", {"block": 3, "offsets": [2, 3, -1]}, lambda q, k: q // 3 - k // 3 in (0, 2, 3, -1)),
    (
        "random_blocks",
        {"block": 2, "share": 0.25, "window_blocks": 1, "global_blocks": 1, "seed": 7},
        lambda q, k: bigbird(q // 2, k // 2),
    ),
]  # fmt: skip
NAMES = [name for name, _, _ in CASES]


def made(name: str, options: dict[str, Any]) -> Mask:
    return part("mask", {name: options})


def matrix(mask: Mask, context: MaskContext | None = None, length: int = LENGTH) -> Tensor:
    at = torch.arange(length)[None]
    return dense(mask, at, at, context or MaskContext())


@pytest.mark.parametrize(("name", "options", "reads"), CASES, ids=NAMES)
def test_a_pattern_is_its_formula_alone_and_composed(name: str, options: dict[str, Any], reads: Pair) -> None:
    mask = made(name, options)
    alone, causal = matrix(mask)[0], matrix(part("mask", {"causal": {}, name: options}))[0]
    either, negated = matrix(mask | Causal())[0], matrix(~mask)[0]
    for q, k in itertools.product(range(LENGTH), repeat=2):
        may = reads(q, k)
        assert bool(alone[q, k]) == may
        assert bool(causal[q, k]) == (may and k <= q)
        assert bool(either[q, k]) == (may or k <= q)
        assert bool(negated[q, k]) == (not may)
        assert (
            bool(mask.allows(torch.tensor(q), torch.tensor(k), MaskContext())) == may
        )  # FlexAttention asks so
    assert mask.allows_self
    assert bool(alone.diagonal().all())
    assert not mask.causal_in(MaskContext())
    assert 0 < int(causal.sum()) < LENGTH * (LENGTH + 1) // 2


def test_a_prefix_ends_with_its_document() -> None:
    mask = made("document_prefix", {})
    found = matrix(mask, CONTEXT)
    for b, q, k in itertools.product(range(2), range(LENGTH), range(LENGTH)):
        free = k <= q or int(PLACES[b, k]) < int(PREFIX[b])
        assert bool(found[b, q, k]) == (free and DOCUMENTS[b, q] == DOCUMENTS[b, k])
    both = matrix(part("mask", ["causal", "document_prefix"]), CONTEXT)
    assert torch.equal(both, matrix(part("mask", ["causal", "document"]), CONTEXT))
    assert torch.equal(
        matrix(made("document_prefix", {"length": 6})), matrix(part("mask", {"prefix": {"length": 6}}))
    )


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_each_document_of_a_row_has_its_prefix(anew: bool, kernel: str) -> None:
    torch.manual_seed(0)
    model = gpt({"document_prefix": {"length": 2}}, kernel)
    tokens, documents = torch.randint(9, (1, 9)), torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1]])
    at = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]]) if anew else None
    before = model(tokens, documents=documents, positions=at)
    for changed in range(9):
        other = tokens.clone()
        other[0, changed] = (other[0, changed] + 1) % 9
        moved = (model(other, documents=documents, positions=at) != before).any(-1)[0].tolist()
        first, end = (0, 4) if changed < 4 else (4, 9)
        reads = {q for q in range(first, end) if changed <= q or changed - first < 2}
        assert {q for q, has in enumerate(moved) if has} == reads


def test_documents_that_all_rows_share_are_told_once() -> None:
    torch.manual_seed(0)
    model = gpt({"document_prefix": {"length": 2}})
    tokens, documents = torch.randint(9, (2, 9)), torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]])
    at = torch.stack([torch.arange(9), torch.arange(9) + 2])
    shared = model(tokens, documents=documents, positions=at)
    assert torch.equal(shared, model(tokens, documents=documents.expand(2, 9), positions=at))


def test_a_cache_and_single_elements_know_the_places_too() -> None:
    torch.manual_seed(0)
    model = gpt({"document_prefix": {"length": 2}})
    tokens, documents = torch.randint(9, (1, 9)), torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]])
    whole, caches = model(tokens, documents=documents), model.new_caches(1, 9)
    for first, end in ((0, 3), (3, 6), (6, 7), (7, 9)):
        part = model(tokens[:, first:end], documents=documents[:, first:end], caches=caches)
        assert torch.allclose(part, whole[:, first:end], atol=1e-12, rtol=0)
    step, mask = model.step(tokens, None, None, documents, None, None), model.blocks[0].attention.mask
    q = k = torch.zeros(1, 1, 9, 1)
    mask_mod, _ = flex_closures(q, k, step, PositionalEncoding(), mask)
    b, zero, expected = (
        torch.tensor(0),
        torch.tensor(0),
        dense(mask, step.q_positions, step.k_positions, step.context),
    )
    for i, j in itertools.product(range(9), repeat=2):
        assert bool(mask_mod(b, zero, torch.tensor(i), torch.tensor(j))) == bool(expected[0, i, j])


def test_a_document_prefix_without_either_is_the_causal_mask() -> None:
    mask = made("document_prefix", {})
    assert mask.causal_in(MaskContext())
    assert torch.equal(matrix(mask)[0], torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril())
    assert not mask.causal_in(CONTEXT)
    assert not mask.causal_in(MaskContext(prefix=PREFIX))
    assert not made("document_prefix", {"length": 3}).causal_in(MaskContext())


def test_training_tells_a_document_prefix_its_documents() -> None:
    tokens = torch.tensor([[4, 0, 5, 6, 0, 7]])  # 0 ends a text
    told = Documents(gpt({"document_prefix": {}}), 0).batch(tokens, tokens)
    assert told.documents is not None
    assert told.documents.tolist() == [[0, 0, 1, 1, 1, 2]]
    assert Documents(gpt({"causal": {}, "dilated": {}}), 0).batch(tokens, tokens).documents is None


def test_what_the_papers_say_of_their_patterns() -> None:
    wide = {"window": 5}
    assert torch.equal(matrix(made("dilated", {**wide, "dilation": 1})), matrix(SlidingWindow(window=5)))
    sinks, everywhere = made("sink_window", {**wide, "sinks": 2}), made("global_tokens", {**wide, "count": 2})
    assert torch.equal(matrix(Causal() & sinks), matrix(Causal() & everywhere))
    assert not torch.equal(matrix(sinks), matrix(everywhere))
    strided = matrix(part("mask", {"causal": {}, "strided": {"stride": 5}}))[0].double()
    assert int(strided.sum(-1).max()) <= 2 * 5
    assert bool(
        ((strided @ strided)[torch.ones(LENGTH, LENGTH).tril() == 1] > 0).all()
    )  # two steps reach all


def test_random_blocks_are_as_many_as_asked_and_never_change() -> None:
    options = {"block": 1, "window_blocks": 0, "global_blocks": 0}
    one, again, other = (
        matrix(made("random_blocks", {**options, "share": 0.2, "seed": seed}), length=256)[0]
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, again)
    off = ~torch.eye(256, dtype=torch.bool)
    assert one[off].double().mean().item() == pytest.approx(0.2, abs=0.01)  # 6 standard deviations
    assert (one & other)[off].double().mean().item() == pytest.approx(0.04, abs=0.005)
    assert (one & one.T)[off].double().mean().item() == pytest.approx(0.04, abs=0.008)
    assert one.double().sum(-1).std().item() == pytest.approx((256 * 0.16) ** 0.5, rel=0.2)
    assert torch.equal(
        one[:40, :40], matrix(made("random_blocks", {**options, "share": 0.2, "seed": 3}), length=40)[0]
    )
    none, every = (matrix(made("random_blocks", {**options, "share": share}))[0] for share in (0.0, 1.0))
    assert torch.equal(none, torch.eye(LENGTH, dtype=torch.bool))
    assert bool(every.all())


def gpt(masks: dict[str, Any], kernel: str = "sdpa", layers: int = 2) -> Any:
    sizes = {"context_length": 8, "d_model": 16, "n_layers": layers, "n_heads": 2, "position": "none"}
    model = {**sizes, "mask": masks, "attention": {"name": "multi_head", "kernel": kernel}}
    return build({"model": model, "seed": 1}, vocab_size=19).double().eval()


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize(("name", "options", "_"), CASES, ids=NAMES)
def test_cached_decoding_equals_the_full_pass_past_the_context(
    name: str, options: dict[str, Any], _: Pair, kernel: str
) -> None:
    model = gpt({"causal": {}, name: options}, kernel)
    tokens = torch.randint(0, 19, (2, LENGTH))
    full = model(tokens)
    for cut in (1, 7, 8, 20):
        caches = model.new_caches(2, LENGTH)
        parts = [model(tokens[:, :cut], caches=caches)]
        parts += [model(tokens[:, i : i + 1], caches=caches) for i in range(cut, LENGTH)]
        assert torch.allclose(torch.cat(parts, dim=1), full, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("name", "options", "reads"), CASES, ids=NAMES)
def test_kernels_agree_and_a_token_hears_only_whom_it_may(
    name: str, options: dict[str, Any], reads: Pair
) -> None:
    tokens = torch.randint(0, 19, (2, LENGTH))
    with torch.no_grad():
        results = [gpt({name: options}, kernel)(tokens) for kernel in ("eager", "sdpa", "flex")]
        assert torch.allclose(results[0], results[1], atol=1e-12, rtol=0)
        assert torch.allclose(results[0], results[2], atol=1e-12, rtol=0)
        model = gpt({name: options}, layers=1)
        before, changed = model(tokens), tokens.clone()
        changed[:, 9] = (changed[:, 9] + 1) % 19
        after = model(changed)
    for q in range(LENGTH):
        assert torch.equal(before[:, q], after[:, q]) == (not reads(q, 9))


@pytest.mark.parametrize(("name", "options", "_"), CASES, ids=NAMES)
def test_no_row_gives_nan_even_one_that_reads_nothing(name: str, options: dict[str, Any], _: Pair) -> None:
    tokens = torch.randint(0, 19, (2, LENGTH))
    padding = torch.zeros(2, LENGTH, dtype=torch.bool)
    padding[1, :13] = True
    for flip in (False, True):
        model = gpt({"causal": {}, name: options})
        if flip:
            for block in model.blocks:
                block.attention.__dict__["mask"] = Causal() & ~made(name, options)
        loss = model.loss(tokens, tokens, padding=padding)
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        assert bool(loss.isfinite())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dilated": {"dilation": 0}}, "dilated: dilation=0, .* take 1 or more"),
        ({"sink_window": {"window": 0}}, "sink_window: window=0, but a token reads at least itself"),
        ({"global_tokens": {"count": -1}}, "global_tokens: count=-1"),
        ({"strided": {"stride": 0}}, "strided: stride=0"),
        ({"fixed": {"block": 0}}, "fixed: block=0"),
        ({"chunked": {"chunk": 0}}, "chunked: chunk=0"),
        ({"block_sparse": {"block": 0}}, "block_sparse: block=0"),
        ({"random_blocks": {"share": 1.5}}, "share=1.5, but it is a probability"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        part("mask", options)


def test_a_list_of_masks_is_composed_from_yaml() -> None:
    config = gptkit.compose(["model/mask=[causal,dilated]", "model.mask.dilated.window=2", "tokenizer=byte"])
    assert config["model"]["mask"] == {"causal": {}, "dilated": {"window": 2, "dilation": 2}}
    rows = matrix(gptkit.build(config).mask)[0].int()[6].tolist()[:8]
    assert rows == [0, 0, 0, 0, 1, 0, 1, 0]
