"""A mixture of experts against plain loops; its balance; its cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import gptkit
from gptkit.errors import UserError
from gptkit.model.assemble import part
from gptkit.model.cost import flops_per_token
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(
    vocab_size=5, context_length=8, d_model=6, n_layers=1, n_heads=2, n_kv_heads=2, d_head=3, d_ff=8
)
X = torch.randn(2, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def built(**options: object) -> Any:
    made = part("feed_forward", {"name": "mixture_of_experts", **options}, SHAPE).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made


def by_hand(made, token: torch.Tensor, taken: dict[int, float]) -> list[float]:
    """The weighed sum of the experts that are taken, number by number."""
    out = [0.0] * 6
    for e, weight in taken.items():
        up, down = made.experts.gate_up.weight[e].tolist(), made.experts.down.weight[e].tolist()
        inner = [sum(token[i].item() * up[i][j] for i in range(6)) for j in range(8)]
        hidden = [g / (1 + math.exp(-g)) * u for g, u in zip(inner[:4], inner[4:], strict=True)]
        for d in range(6):
            out[d] += weight * sum(hidden[j] * down[j][d] for j in range(4))
    return out


@pytest.mark.parametrize("renormalise", [True, False])
def test_it_is_its_formula(renormalise: bool) -> None:
    made = built(n_experts=4, renormalise=renormalise).eval()
    found = made(X)
    for b in range(2):
        for t in range(7):
            logits = [
                sum(made.router.map.weight[e, i].item() * X[b, t, i].item() for i in range(6))
                for e in range(4)
            ]
            total = sum(math.exp(v) for v in logits)
            scores = [math.exp(v) / total for v in logits]
            best = sorted(range(4), key=lambda e: -scores[e])[:2]
            whole = sum(scores[e] for e in best) if renormalise else 1.0
            expected = by_hand(made, X[b, t], {e: scores[e] / whole for e in best})
            assert torch.allclose(
                found[b, t], torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=1e-12
            )


def test_softmax_of_chosen_is_the_renormalised_softmax() -> None:
    a, b = built(score="softmax_of_chosen"), built()
    assert torch.allclose(a(X), b(X), atol=1e-12)


def test_only_the_best_groups_are_looked_at() -> None:
    made = built(n_experts=8, n_active=2, groups=4, active_groups=1, score="sigmoid").eval()
    chosen, _ = made.router(X.flatten(0, 1))
    assert (chosen // 2 == chosen[:, :1] // 2).all()
    scores = made.router.map(X.flatten(0, 1)).sigmoid().view(-1, 4, 2).sum(-1)
    assert torch.equal(chosen[:, 0] // 2, scores.argmax(-1))


def test_the_penalty_is_least_where_experts_are_equally_busy() -> None:
    made = built(n_experts=4, n_active=1).train()
    made(X)
    uneven = made.router.take_penalty()
    assert made.router.take_penalty() is None
    with torch.no_grad():
        made.router.map.weight.zero_()
    made(X)  # ties: the scores are equal, whoever is taken
    assert made.router.take_penalty().item() == pytest.approx(0.01, abs=1e-12)
    assert uneven.item() > 0.01


def test_the_penalty_moves_the_router_and_not_the_loss() -> None:
    config = {"model": {"n_layers": 1, "d_model": 16, "n_heads": 2, "context_length": 8, "vocab_size": 9}}
    models: dict[float, Any] = {
        rate: gptkit.build(
            {
                "model": {
                    **config["model"],
                    "feed_forward": {"name": "mixture_of_experts", "balance_rate": rate},
                }
            }
        )
        for rate in (0.0, 10.0)
    }
    x = torch.randint(0, 9, (4, 8), generator=torch.Generator().manual_seed(2))
    losses, grads = {}, {}
    for rate, model in models.items():
        loss = model.train().loss(x, x.roll(-1, 1))
        loss.backward()
        losses[rate], grads[rate] = loss.item(), model.blocks[0].feed_forward.router.map.weight.grad.clone()
    assert losses[0.0] == losses[10.0]
    assert not torch.allclose(grads[0.0], grads[10.0], atol=1e-4)
    model = models[10.0]
    model.zero_grad()
    model.loss(x, x.roll(-1, 1), reduction="sum").backward()
    summed = model.blocks[0].feed_forward.router.map.weight.grad
    assert torch.allclose(summed / 32, grads[10.0], atol=1e-6)  # a sum weighs it by its targets


def test_the_bias_evens_out_the_load_and_is_saved() -> None:
    made = built(n_experts=4, n_active=1, balance="bias", balance_rate=0.01).train()
    x = torch.randn(400, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.7

    def busiest() -> float:
        chosen, _ = made.router(x)
        return torch.bincount(chosen.flatten(), minlength=4).max().item() / 100

    before = busiest()
    for _ in range(300):
        made(x)
        made.router.after_update()
    assert before > 1.8
    assert busiest() < 1.2
    assert "router.preference" in made.state_dict()
    assert made.router.preference.abs().max() > 0.05


def test_a_token_costs_what_it_meets() -> None:
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2, "context_length": 8, "vocab_size": 9, "d_ff": 32}
    costs = [
        flops_per_token(gptkit.build({"model": {**sizes, "feed_forward": node}}), backward=False)
        for node in (
            {"name": "mixture_of_experts", "n_experts": 8},
            {"name": "mixture_of_experts", "n_experts": 64},
            {"name": "none"},
        )
    ]
    assert costs[0] - costs[2] == 2 * 16 * (8 + 3 * 32)
    assert costs[1] - costs[0] == 2 * 16 * 56


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n_active": 9}, "n_active=9"),
        ({"groups": 3}, "groups=3"),
        ({"groups": 4, "active_groups": 1, "n_active": 3}, "only 2 experts"),
        ({"d_shared": -1}, "d_shared=-1"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(options: dict[str, int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        part("feed_forward", {"name": "mixture_of_experts", **options}, SHAPE)


def test_the_bias_of_the_choice_goes_on_exactly(tmp_path: Path) -> None:
    """Stopped and resumed, bitwise as if it had never stopped."""
    from gptkit.cli import main

    words = [
        "model/feed_forward=mixture_of_experts", "model.feed_forward.balance=bias", "model.n_layers=1", "model.d_model=16",
        "model.n_heads=2", "data.batch_size=4", "schedule=constant", "logger=none", "trainer.sample_tokens=0",
        "trainer.eval_every=null", "-q",
    ]  # fmt: skip
    assert main(["train", *words, f"run_root={tmp_path / 'whole'}", "trainer.max_steps=6"]) == 0
    assert main(["train", *words, f"run_root={tmp_path / 'parts'}", "trainer.max_steps=3"]) == 0
    part = next((tmp_path / "parts").iterdir())
    assert main(["train", f"resume={part}", "trainer.max_steps=6", "-q"]) == 0
    states = [gptkit.load(path).state_dict() for path in (next((tmp_path / "whole").iterdir()), part)]
    assert states[0]["blocks.0.feed_forward.router.preference"].any()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
