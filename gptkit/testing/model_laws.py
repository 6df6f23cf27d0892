"""What holds of a model whatever part stands in it: shapes, gradients, rows, precision, learning."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gptkit.testing.checks import law
from gptkit.testing.subject import (
    CONTEXT,
    VOCABULARY,
    Refused,
    Subject,
    close,
    named_errors_refuse,
    shape,
    tokens,
)

if TYPE_CHECKING:
    from gptkit.model.gpt import GPT


@law("model")
def shapes_hold(subject: Subject) -> None:
    """One row or one token, an odd number of heads, heads of a width of their own, shared heads of keys, a full
    context: each gives finite logits [B, T, V], or is refused by a named error."""
    model = subject.model()
    _finite(model, "the default sizes")
    attends = {} if subject.slot == "model.attention" else {"attention": {"name": "grouped_query"}}
    for sizes in (
        {"d_model": 24, "n_heads": 3},
        {"n_layers": 1, "d_model": 8, "n_heads": 1},
        {"d_head": 6},
        {"d_model": 12, "n_heads": 4, "d_head": 8, "d_ff": 20},
        {"n_heads": 4, "n_kv_heads": 2, **attends},
        {"n_heads": 4, "n_kv_heads": 1, "d_head": 10, **attends},
    ):
        with suppress(Refused):
            _finite(
                subject.model(**sizes), ", ".join(f"{k}={v}" for k, v in sizes.items() if k != "attention")
            )


def _finite(model: GPT, told: str) -> None:
    for batch, length in ((1, 1), (3, 5), (2, CONTEXT)):
        with named_errors_refuse():
            logits = model(tokens(batch, length))
        found = list(logits.shape)
        assert found == [batch, length, VOCABULARY], (
            f"With {told}, {batch} x {length} tokens gave logits of {found}."
        )
        assert logits.isfinite().all(), (
            f"With {told}, {batch} x {length} tokens gave numbers that are not finite."
        )


@law("model")
def repeats_itself(subject: Subject) -> None:
    """The same tokens give bitwise the same logits twice, in evaluation and on a view of memory."""
    model = subject.model()
    first = model(tokens())
    assert torch.equal(first, model(tokens())), (
        "The second pass gave other numbers: it keeps state, or draws."
    )
    view = torch.stack([tokens(), tokens(seed=9)], dim=-1)[..., 0]
    assert torch.equal(first, model(view)), (
        "Tokens that do not lie side by side in memory gave other numbers."
    )


@law("model")
def leaves_its_input_alone(subject: Subject) -> None:
    """No part writes into what it was given."""
    model = subject.model()
    seen: list[tuple[str, Tensor, Tensor]] = []

    def remember(module: Any, given: tuple[Any, ...]) -> None:
        seen.extend((type(module).__name__, x, x.clone()) for x in given if isinstance(x, torch.Tensor))

    for block in model.blocks:
        for module in block.modules():
            module.register_forward_pre_hook(remember)
    given = tokens()
    kept = given.clone()
    model(given)
    assert torch.equal(given, kept), "The tokens were changed."
    for name, now, before in seen:
        assert torch.equal(now, before), f"What {name} was given was changed in place."


@law("model")
def gradients_reach_all(subject: Subject) -> None:
    """Every parameter gets a finite gradient, and one that is not zero."""
    model = subject.model().train()
    touched = {name: False for name, p in model.named_parameters() if p.requires_grad}
    for seed in range(4):  # a router leaves some of its experts out at times
        model.zero_grad(set_to_none=True)
        x = tokens(8, CONTEXT, seed)
        model.loss(x[:, :-1], x[:, 1:]).backward()
        x = tokens(1, CONTEXT, seed + 50)
        model.loss(x, x.roll(-1, 1)).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                assert torch.isfinite(parameter.grad).all(), f"{name} has a gradient that is not finite."
                touched[name] |= bool((parameter.grad != 0).any())
    still = [name for name, was in touched.items() if not was]
    assert not still, f"Never learns: {', '.join(still)}."


@law("model")
def rows_stand_alone(subject: Subject) -> None:
    """A text's logits do not depend on the other texts of its batch, nor on its place among them."""
    model, x = subject.model(), tokens(4)
    whole = model(x)
    close(model(x[1:2]), whole[1:2], "A row alone gave other logits than in its batch.")
    close(model(x.flip(0)), whole.flip(0), "Rows in another order gave other logits.")


@law("model")
def padding_is_unread(subject: Subject) -> None:
    """A padded text gives what it gives alone, on whichever side the padding is, and whatever it holds."""
    model, x = subject.model(), tokens(2, CONTEXT)
    alone = model(x[:1, :7])
    for left in (False, True):
        for filling in (0, 5):
            row, padding = torch.full((1, CONTEXT), filling), torch.ones(1, CONTEXT, dtype=torch.bool)
            span = slice(CONTEXT - 7, None) if left else slice(0, 7)
            row[:, span], padding[:, span] = x[:1, :7], False
            both = torch.cat([row, x[1:]])
            with named_errors_refuse():
                out = model(both, padding=torch.cat([padding, torch.zeros_like(padding)]))
            side = "left" if left else "right"
            assert out.isfinite().all(), f"Padding on the {side} gave numbers that are not finite."
            close(out[:1, span], alone, f"Padding on the {side} changed a text's logits.")
            close(out[1:], model(x[1:]), f"One row's padding on the {side} changed another row.")


@law("model")
def loss_is_of_the_logits(subject: Subject) -> None:
    """The loss is the mean cross-entropy of the logits, over the targets that count."""
    from torch.nn import functional as F

    model, x = subject.model(), tokens()
    targets = x.roll(-1, 1)
    targets[0, :4] = -100
    expected = F.cross_entropy(model(x).flatten(0, 1), targets.flatten(), ignore_index=-100)
    close(model.loss(x, targets), expected, "They differ.")


@law("model")
def survives_bfloat16(subject: Subject) -> None:
    """In bfloat16 it computes nearly the same, and gives bfloat16 back."""
    model = subject.build()
    exact = model.double()(tokens()).detach().flatten()
    found = model.bfloat16()(tokens()).detach()
    assert found.dtype == torch.bfloat16, f"It gives {found.dtype}."
    assert found.isfinite().all(), "It gives numbers that are not finite."
    alike = float(torch.nn.functional.cosine_similarity(found.double().flatten(), exact, dim=0))
    assert alike > 0.98, f"Its logits point elsewhere: cosine {alike:.3f} to the exact ones."


@law("model")
def learns(subject: Subject) -> None:
    """Forty steps of Adam on one batch take at least a tenth off the loss."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(1)  # what a part draws in training
    model, x = subject.build().train(), tokens(4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = model.loss(x[:, :-1], x[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_rng_state(torch_state)
    assert losses[-1] < 0.9 * losses[0], f"The loss went from {losses[0]:.3f} to {losses[-1]:.3f}."


@law("model", slow=True)
def compiles(subject: Subject) -> None:
    """`torch.compile` takes the whole model as one graph, and it computes the same."""
    torch.compiler.reset()  # it keeps count of how often the GPT's forward was compiled, for all models
    model = subject.model()
    expected = model(tokens())
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    close(compiled(tokens()), expected, "The compiled model computes something else.")


@law("model.norm", "model.feed_forward")
def each_token_alone(subject: Subject) -> None:
    """A token's result depends on that token alone: in another order the results are the same, in that order."""
    made = subject.part(16) if subject.slot == "model.norm" else subject.part(shape())
    if getattr(made, "absent", False):
        raise Refused("There is nothing to compute.")
    from gptkit.model.init import GPT2Init, initialise
    from gptkit.testing.subject import stir

    initialise(made, GPT2Init(shape()), 1)
    made = stir(made.double().eval())
    x = torch.randn(2, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out = made(x)
    assert out.shape == x.shape, f"[2, 5, 16] became {list(out.shape)}."
    order = torch.tensor([3, 1, 4, 0, 2])
    close(made(x[:, order]), out[:, order], "Tokens in another order gave other results.")
    close(made(x[:1, 2:3]), out[:1, 2:3], "A token alone gave another result than among others.")
    for scale in (1e-4, 1e4):
        assert made(x * scale).isfinite().all(), (
            f"Inputs {scale:g} times as large gave numbers that are not finite."
        )
