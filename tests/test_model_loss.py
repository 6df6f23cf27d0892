"""Cross-entropy without the logits, against loops and against the logits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import reference
from gptkit.model import cross_entropy
from gptkit.model.cross_entropy import linear_cross_entropy
from tiny import close, normal, some_tokens, tiny


def _case(count=11, vocab=17, width=5, seed=0):
    x, weight, bias = (
        normal(count, width, seed=seed),
        normal(vocab, width, seed=seed + 1),
        normal(vocab, seed=seed + 2),
    )
    return x, weight, bias, some_tokens(1, count, seed, vocab).flatten()


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 12), vocab=st.integers(1, 20), width=st.integers(1, 6), has_bias=st.booleans(),
    ignored=st.integers(0, 12), chunk=st.integers(1, 300), reduction=st.sampled_from(["mean", "sum"]),
)  # fmt: skip
def test_any_chunk_gives_the_sum_of_logarithms_and_its_slope(
    count, vocab, width, has_bias, ignored, chunk, reduction
):
    x, weight, bias, targets = _case(count, vocab, width)
    targets[:ignored] = -100
    leaves = [tensor.requires_grad_() for tensor in (x, weight, *([bias] if has_bias else []))]
    loss = linear_cross_entropy(x, weight, bias if has_bias else None, targets, reduction, chunk)
    logits = reference.linear(
        x.detach().numpy(), weight.detach().numpy(), bias.detach().numpy() if has_bias else None
    )
    total, counted = reference.cross_entropy(logits, targets.tolist())
    share = max(counted, 1) if reduction == "mean" else 1
    close(loss, total / share)
    # d loss / d logits = softmax - one-hot, for the targets that count
    slope = np.exp(logits - logits.max(-1, keepdims=True))
    slope /= slope.sum(-1, keepdims=True)
    for row, target in enumerate(targets.tolist()):
        slope[row] = 0 if target == -100 else slope[row] - np.eye(vocab)[target]
    slope /= share
    expected = [slope @ weight.detach().numpy(), slope.T @ x.detach().numpy(), slope.sum(0)]
    for ours, theirs in zip(torch.autograd.grad(loss, leaves), expected, strict=False):
        close(ours, theirs)


@pytest.mark.parametrize("chunk", [1, 40, 10**6])
def test_a_loss_over_nothing_is_zero_and_so_are_its_gradients(chunk):
    x, weight, bias, targets = _case()
    targets[:] = -100
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    for reduction in ("mean", "sum"):
        loss = linear_cross_entropy(*leaves, targets, reduction, chunk)
        assert loss.item() == 0
        assert all(grad.eq(0).all() for grad in torch.autograd.grad(loss, leaves))


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_what_is_frozen_gets_no_gradient(frozen):
    *leaves, targets = _case()
    for index, tensor in enumerate(leaves):
        tensor.requires_grad_(index not in frozen)
    linear_cross_entropy(*leaves, targets, chunk=40).backward()
    assert [tensor.grad is None for tensor in leaves] == [index in frozen for index in range(3)]


def test_the_factor_in_front_of_a_loss_reaches_its_gradients():
    x, weight, bias, targets = _case()
    weight.requires_grad_()
    plain = torch.autograd.grad(linear_cross_entropy(x, weight, bias, targets, chunk=40), weight)[0]
    scaled = torch.autograd.grad(linear_cross_entropy(x, weight, bias, targets, chunk=40) * -7, weight)[0]
    close(scaled, -7 * plain)


def test_evaluation_makes_no_gradients(monkeypatch):
    x, weight, bias, targets = _case()
    weight.requires_grad_()
    learned = linear_cross_entropy(x, weight, bias, targets, chunk=40)
    monkeypatch.setattr(cross_entropy, "_add_product", lambda *_: pytest.fail("a gradient was made"))
    for still in (torch.no_grad(), torch.inference_mode()):
        with still:
            close(linear_cross_entropy(x, weight, bias, targets, chunk=40), learned.detach())


def test_gradients_are_taken_once_and_to_the_first_order():
    x, weight, bias, targets = _case()
    weight.requires_grad_()
    loss = linear_cross_entropy(x, weight, bias, targets, chunk=40)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="already taken"):
        loss.backward()
    loss = linear_cross_entropy(x, weight, bias, targets, chunk=40)
    (slope,) = torch.autograd.grad(loss**2, weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("chunk", [60, 10**6])
def test_scores_beyond_the_reach_of_exp(chunk):
    x, weight, bias, targets = _case()
    weight.requires_grad_()
    loss = linear_cross_entropy(x * 1e4, weight, bias, targets, chunk=chunk)
    loss.backward()
    assert loss.isfinite()
    assert weight.grad.isfinite().all()
    logits = (x * 1e4 @ weight.T + bias).detach().numpy()
    close(loss, reference.cross_entropy(logits, targets.tolist())[0] / 11, 1e-10)


@pytest.mark.parametrize("chunk", [1 << 24, 16 * 64])
def test_bf16_autocast_reduces_in_float32(chunk):
    """The logits are rounded to 16 bits, their sum is not: 4,096 equal scores are log(4096) exactly."""
    count, vocab, width = 64, 4096, 8
    x, weight = torch.zeros(count, width, requires_grad=True), torch.zeros(vocab, width, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(x, weight, None, torch.arange(count), "sum", chunk * 4)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(count * np.log(vocab), rel=1e-6)
    exact_x, exact_weight, _, targets = _case(64, 37, 8)
    leaves = [exact_x.float().requires_grad_(), exact_weight.float().requires_grad_()]
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(*leaves, None, targets, "mean", chunk)
    loss.backward()
    expected = [exact_x.clone().requires_grad_(), exact_weight.clone().requires_grad_()]
    plain = F.cross_entropy(expected[0] @ expected[1].T, targets)
    plain.backward()
    close(loss.double(), plain, 0.02)
    for ours, theirs in zip(leaves, expected, strict=True):
        assert ours.grad.dtype == torch.float32
        assert (ours.grad - theirs.grad).norm() < 0.02 * theirs.grad.norm()


@pytest.mark.parametrize("block", [1, 8 * 5, 8 * 37, 1 << 21])
def test_a_product_added_in_blocks_is_the_whole_product(block, monkeypatch):
    """37 rows in blocks of 1, 5 and 37; the last block of 5 is short."""
    monkeypatch.setattr(cross_entropy, "_BLOCK", block)
    left, right = normal(64, 37).bfloat16().t(), normal(64, 8, seed=1).bfloat16()
    total = normal(37, 8, seed=2).float()
    expected = total + (left.double() @ right.double()).float()
    cross_entropy._add_product(total, left, right)
    assert (total - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_loss_of_a_model_is_that_of_its_logits(tied, bias, monkeypatch):
    model = tiny(head={"name": "language_model", "tied": tied, "bias": bias})
    tokens, targets = some_tokens(), some_tokens(seed=1)
    targets[0, 2:5] = -100
    logits = model(tokens)
    total, counted = reference.cross_entropy(
        logits.detach().numpy().reshape(-1, 23), targets.flatten().tolist()
    )
    plain = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    expected = torch.autograd.grad(plain, list(model.parameters()))
    for chunk in (1 << 24, 50):
        monkeypatch.setattr(linear_cross_entropy, "__defaults__", ("mean", chunk))
        loss = model.loss(tokens, targets)
        close(loss, total / counted)
        for ours, theirs in zip(torch.autograd.grad(loss, list(model.parameters())), expected, strict=True):
            close(ours, theirs)
        close(model.loss(tokens, targets, reduction="sum"), total)
    assert model.loss(tokens, torch.full_like(targets, -100)).item() == 0


def test_logits_of_a_large_vocabulary_never_exist_at_once():
    """4,096 tokens of 50,257 in float32 would take 824 MB; a chunk takes 16 MiB on a CPU."""
    seen = []
    real = torch.mm

    def spy(*given, out):
        seen.append(out.numel())
        return real(*given, out=out)

    x, weight = torch.zeros(700, 2, requires_grad=True), torch.zeros(50257, 2)
    try:
        torch.mm = spy
        linear_cross_entropy(x, weight, None, torch.zeros(700, dtype=torch.long)).backward()
    finally:
        torch.mm = real
    assert sum(seen) == 700 * 50257
    assert max(seen) <= 1 << 22


def test_a_compiled_loss_in_chunks_gives_the_same():
    x, weight, bias, targets = _case()
    weight.requires_grad_()
    torch.compiler.reset()
    compiled = torch.compile(linear_cross_entropy, backend="eager")
    loss = linear_cross_entropy(x, weight, bias, targets, chunk=40)
    ours = compiled(x, weight, bias, targets, chunk=40)
    close(ours, loss)
    close(torch.autograd.grad(ours, weight)[0], torch.autograd.grad(loss, weight)[0])
