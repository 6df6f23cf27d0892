"""Randomised positions: what is drawn in training, and where tokens stand in evaluation."""

from __future__ import annotations

import pytest
import torch

import gptkit
from gptkit.errors import ConfigError, PositionRangeError
from gptkit.model.assemble import part
from gptkit.model.interfaces import ModelShape

SHAPE = ModelShape(5, 8, 16, 2, 2, 2, 8, 8)
SIZES = {"n_layers": 2, "d_model": 16, "n_heads": 2, "vocab_size": 9, "context_length": 8}


def test_training_draws_sorted_places_from_the_whole_range() -> None:
    made = part("position", {"name": "randomised", "reach": 16, "span": 40}, SHAPE).train()
    torch.manual_seed(1)
    seen = torch.zeros(40)
    for _ in range(300):
        made.embed(torch.zeros(1, 8, 16), torch.arange(8)[None])
        places = made.place(torch.arange(8))
        assert (places[1:] > places[:-1]).all()
        seen[places] += 1
    assert (seen > 300 * 8 / 40 / 2).all()  # each place about 60 times


def test_the_same_draw_serves_layers_and_the_encoding_is_told_it() -> None:
    inner = {"name": "sinusoidal"}
    made = part("position", {"name": "randomised", "of": inner, "reach": 16, "span": 40}, SHAPE).train()
    at, x = torch.arange(8)[None], torch.zeros(1, 8, 16, dtype=torch.float64)
    added = made.embed(x, at)
    places = made.place(at)
    assert torch.equal(added, part("position", "sinusoidal", SHAPE).embed(x, places))
    assert torch.equal(made.place(at), places)


@pytest.mark.parametrize("inner", ["rotary", "alibi", "learned", "shaw", "none"])
def test_in_evaluation_tokens_stand_evenly(inner: str) -> None:
    node = {"name": "randomised", "of": {"name": inner}, "reach": 20, "span": 60}
    model = gptkit.build({"model": {**SIZES, "position": node}}).eval().double()
    plain = gptkit.build({"model": {**SIZES, "context_length": 60, "position": inner}}).eval().double()
    plain.load_state_dict(
        {name.replace("position.inner.", "position."): t for name, t in model.state_dict().items()}
    )
    x = torch.randint(0, 9, (2, 20), generator=torch.Generator().manual_seed(2))
    at = 3 * torch.arange(20)[None]
    assert torch.allclose(model(x), plain(x, positions=at), atol=1e-12)
    with pytest.raises(PositionRangeError, match="position 20 was asked"):
        model(torch.zeros(1, 21, dtype=torch.long))


def test_a_seed_decides_the_draw() -> None:
    model = gptkit.build(
        {"model": {**SIZES, "position": {"name": "randomised", "of": {"name": "rotary"}}}}
    ).train()
    x = torch.randint(0, 9, (2, 8), generator=torch.Generator().manual_seed(2))
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(model.loss(x, x.roll(-1, 1)).item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"reach": 4}, "reach=4"),
        ({"reach": 30, "span": 20}, "span=20"),
        ({"of": {}}, "a name of its own"),
        ({"of": {"name": "rotary", "bass": 1}}, "rotary refuses"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        part("position", {"name": "randomised", **options}, SHAPE)
