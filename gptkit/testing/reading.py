"""How tokens read one another: causality, who reads whom, positions, and the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import torch
from torch import Tensor

from gptkit.errors import GptkitError, PositionRangeError
from gptkit.model.interfaces import DistanceBias, PositionalEncoding
from gptkit.testing.checks import law
from gptkit.testing.subject import CONTEXT, Refused, Subject, close, named_errors_refuse, tokens

if TYPE_CHECKING:
    from gptkit.model.gpt import GPT

FULL = {"full": {}}
SHIFTS = (1, 5, 7, 37, 1009)  # coprime to each other and to the context: no period divides them all


class _Turns(PositionalEncoding):
    """Turns each neighbouring pair of q and k by half the position."""

    is_relative = True

    def rotate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        return self._turn(q, q_positions), self._turn(k, k_positions)

    def _turn(self, x: Tensor, positions: Tensor) -> Tensor:
        angle = positions[:, None, :, None].to(x.dtype) / 2
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack(
            [a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1
        ).flatten(-2)


class _OnlySelf(DistanceBias):
    """Puts every other token out of reach."""

    def bias_of(self, distance: Tensor) -> Tensor:
        return -1e4 * distance.abs().unsqueeze(0).double()


def influence(model: GPT, x: Tensor, at: int) -> Tensor:
    """How far the logits after token `at` depend on each token's vector: [T], exact zero where not at all."""
    held: list[Tensor] = []

    def catch(module: Any, given: Any, out: Tensor) -> Tensor:
        held.append(out.detach().requires_grad_())
        return held[0]

    handle = model.embedding.register_forward_hook(catch)
    try:
        weights = torch.linspace(-1.0, 1.3, model.shape.vocab_size, dtype=torch.float64)
        (model(x)[:, at] * weights).sum().backward()
    finally:
        handle.remove()
    grad = held[0].grad
    assert grad is not None
    return grad.abs().amax(dim=(0, 2))


def allowed_by(model: GPT, length: int) -> Tensor:
    """[T, T], true where the model's mask lets a token read another."""
    from gptkit.model.interfaces import MaskContext
    from gptkit.model.masks import dense

    at = torch.arange(length)[None]
    return dense(model.mask, at, at, MaskContext())[0]


def _causal_model(subject: Subject) -> GPT:
    """A model in which no token reads a later one; a mask is joined with the causal one."""
    if subject.slot == "model.mask":
        return subject.model(mask={"causal": {}, **subject.node})
    return subject.model()


@law("model")
def causal(subject: Subject) -> None:
    """Under a causal mask no logit depends on a later token: the gradient there is exactly zero."""
    model = _causal_model(subject)
    x = tokens()
    full = model(x)
    for at in (0, 4, CONTEXT - 2):
        ahead = influence(model, x, at)[at + 1 :]
        assert not ahead.any(), (
            f"The logits after token {at} depend on tokens after it (by {float(ahead.max()):.3g})."
        )
        changed = x.clone()
        changed[:, at + 1 :] = (
            changed[:, at + 1 :] + 1 + torch.arange(CONTEXT - at - 1)
        ) % model.shape.vocab_size
        close(
            model(changed)[:, : at + 1],
            full[:, : at + 1],
            f"Other tokens after {at} changed the logits before.",
        )
        close(
            model(x[:, : at + 1]),
            full[:, : at + 1],
            f"Without the tokens after {at} the logits before differ.",
        )


@law("model")
def reads_what_it_may(subject: Subject) -> None:
    """In one layer a token depends on exactly itself and those that the mask lets it read."""
    model = subject.model(n_layers=1)
    x, allowed = tokens(1), allowed_by(model, CONTEXT) | torch.eye(CONTEXT, dtype=torch.bool)
    for at in (0, 5, CONTEXT - 1):
        found = influence(model, x, at) > 0
        unread = (allowed[at] & ~found).nonzero().flatten().tolist()
        assert not unread, f"Token {at} may read {unread} and does not depend on them."
        leaks = (found & ~allowed[at]).nonzero().flatten().tolist()
        assert not leaks, f"Token {at} may not read {leaks} and depends on them."


@law("model.attention")
def order_is_told_by_positions_alone(subject: Subject) -> None:
    """Without positions and under the full mask, attention gives permuted results for permuted tokens."""
    model, x = subject.model(position={"name": "none"}, mask=FULL), tokens()
    order = torch.randperm(CONTEXT, generator=torch.Generator().manual_seed(2))
    with named_errors_refuse():
        close(model(x[:, order]), model(x)[:, order], "It knows the order of its tokens.", within=1e-11)


@law("model.position")
def breaks_the_symmetry(subject: Subject) -> None:
    """Under the full mask permuted tokens do not give permuted results, unless the encoding is none."""
    model, x = subject.model(mask=FULL), tokens()
    order = torch.randperm(CONTEXT, generator=torch.Generator().manual_seed(2))
    moved = float((model(x[:, order]) - model(x)[:, order]).detach().abs().max())
    if subject.component.name == "none":
        assert moved < 1e-11, "It tells an order."
    else:
        assert moved > 1e-6, "It tells no order."


@law("model.position")
def relative_as_it_says(subject: Subject) -> None:
    """An encoding that says it is relative gives the same at places moved by any distance; another does not."""
    model, x = subject.model(), tokens(2, 6)
    at = torch.arange(6)[None]
    last = SHIFTS[-1] if model.max_positions is None else max(1, model.max_positions - 6)
    shifts = [shift for shift in SHIFTS if shift <= last]
    with named_errors_refuse(), torch.no_grad():
        here = model(x, positions=at)
        moved = {shift: float((model(x, positions=at + shift) - here).abs().max()) for shift in shifts}
    shift, most = max(moved.items(), key=lambda item: item[1])
    if model.position.is_relative:
        assert most < 1e-9, (
            f"It says is_relative, but tokens moved by {shift} places give logits {most:.3g} apart."
        )
    else:
        assert most > 1e-9, (
            "It does not say is_relative, but only distances matter: say so, and a cache can slide."
        )


@law("model.position")
def ends_where_it_says(subject: Subject) -> None:
    """Past its last position it raises PositionRangeError; without an end it stays finite at eight contexts."""
    model = subject.model(n_layers=1)
    end = model.max_positions
    if end is None:
        for times in (2, 8):
            logits = model(tokens(1, times * CONTEXT))
            assert logits.isfinite().all(), f"{times} x the context gave numbers that are not finite."
        return
    model(tokens(1, min(end, 4 * CONTEXT)))
    try:
        model(tokens(1, end + 1))
    except PositionRangeError:
        return
    raise AssertionError(f"It ends at {end} positions, but took {end + 1} without a word.")


@law("model")
def decoding_equals_reading(subject: Subject) -> None:
    """Read in parts with a cache, at every split, it gives what it gives at once, also past the context."""
    model = _causal_model(subject)
    with named_errors_refuse():
        model.new_caches(1, 2)
    _decodes(model, tokens(2, CONTEXT))
    if model.max_positions is None and not any(m.has_end for m in (model.mask,)):
        with named_errors_refuse():
            _decodes(model, tokens(2, 2 * CONTEXT), cuts=(3, CONTEXT, CONTEXT + 5))
    with torch.no_grad():
        caches = model.new_caches(2, CONTEXT)
        model(tokens(2, 5), caches=caches)
        held = model(tokens(2, 1, seed=8), caches=caches)
        whole = model(torch.cat([tokens(2, 5), tokens(2, 1, seed=8)], dim=1))
    close(held[:, -1], whole[:, -1], "After a cached prompt the next token's logits differ.")


def _decodes(model: GPT, x: Tensor, cuts: tuple[int, ...] | None = None) -> None:
    length = x.shape[1]
    with torch.no_grad():
        full = model(x)
        for cut in cuts or range(1, length):
            caches = model.new_caches(x.shape[0], length)
            parts = [model(x[:, :cut], caches=caches)]
            middle = (cut + length) // 2
            parts += [model(x[:, i : i + 1], caches=caches) for i in range(cut, middle)]
            if middle < length:
                parts.append(model(x[:, middle:], caches=caches))
            close(torch.cat(parts, dim=1), full, f"Read with a cache from token {cut} on, the logits differ.")


@law("model.attention")
def kernels_agree(subject: Subject) -> None:
    """Every kernel that it offers computes the same, under each kind of mask."""
    declared = {option.name: option.type for option in subject.component.declaration.options}
    kind = declared.get("kernel")
    if kind is None or get_origin(kind) is not Literal:
        raise Refused("It offers no choice of kernels.")
    x = tokens()
    for mask in ({"causal": {}}, {"causal": {}, "sliding_window": {"window": 3}}, FULL):
        results: dict[str, Tensor] = {}
        for kernel in get_args(kind):
            node = {**subject.node, "kernel": kernel}
            try:
                results[kernel] = subject.model(attention=node, mask=mask, position={"name": "learned"})(x)
            except (Refused, GptkitError):
                continue  # such as one that needs CUDA
        first, *others = results.items()
        for name, found in others:
            close(found, first[1], f"{name} and {first[0]} differ under {'+'.join(mask)}.")


@law("model.attention")
def shows_its_pattern(subject: Subject) -> None:
    """Asked for its patterns it gives one a layer, [B, H, T, S], zero where the mask forbids, and computes the same."""
    model, x = subject.model(), tokens()
    patterns: list[Tensor] = []
    with named_errors_refuse():
        out = model(x, patterns=patterns)
    close(out, model(x), "Asking for patterns changed the logits.")
    if not patterns:
        raise Refused("It has no pattern of T x S to show.")
    assert len(patterns) == 2, f"Two layers gave {len(patterns)} patterns."
    for pattern in patterns:
        assert list(pattern.shape) == [2, 2, CONTEXT, CONTEXT], (
            f"A pattern has the shape {list(pattern.shape)}."
        )
        forbidden = pattern.masked_select(~allowed_by(model, CONTEXT))
        assert not forbidden.any(), "The pattern is not zero where the mask forbids."


@law("model.attention")
def reads_nothing_as_nothing(subject: Subject) -> None:
    """A token that may read nothing gets numbers, not NaN, and none of the others' content."""
    matrix = torch.ones(CONTEXT, CONTEXT, dtype=torch.long).tril()
    matrix[4] = 0
    model = subject.model(n_layers=1, mask={"explicit": {"matrix": matrix.tolist()}})
    with named_errors_refuse():
        out = model(tokens())
    assert out.isfinite().all(), "A row that may read nothing gave numbers that are not finite."
    found = influence(model, tokens(1), 4) > 0
    assert not found[:4].any(), "It depends on tokens that it may not read."


@law("model.attention")
def hears_rotations(subject: Subject) -> None:
    """Queries and keys are turned as the position encoding says, values are not, and a cache keeps what was turned."""
    x, at = tokens(1), torch.arange(CONTEXT)[None]
    plain = subject.model(n_layers=1, position={"name": "none"})
    with named_errors_refuse():
        turned = _given(subject.model(n_layers=1, position={"name": "none"}), _Turns())
        near, far = turned(x, positions=at), turned(x, positions=at + 9)
    close(
        far, near, "Turned by positions, it depends on more than distances: are values turned?", within=1e-10
    )
    assert float((near - plain(x)).detach().abs().max()) > 1e-6, "Turning queries and keys changes nothing."
    with named_errors_refuse():
        turned.new_caches(1, 2)
    _decodes(turned, x)


@law("model.attention")
def hears_biases(subject: Subject) -> None:
    """A position encoding's bias is added before the softmax: it can put a token out of reach."""
    with named_errors_refuse():
        read = influence(_given(subject.model(n_layers=1), _OnlySelf()), tokens(1), 7)
    assert not read[:7].any(), "It reads tokens that the bias puts out of reach."


def _given(model: GPT, position: Any) -> GPT:
    """The model with its attention's position encoding replaced."""
    for block in model.blocks:
        block.attention.__dict__["position"] = position  # type: ignore[union-attr]
    return model
