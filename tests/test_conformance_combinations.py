"""Every two parts stand together in some model, and each such model is sound."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptkit import registry
from gptkit.errors import UserError
from gptkit.model.attention import MultiHead
from gptkit.testing import combinations as c


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=5))
def test_pairs_hold_every_pair_and_few_more(sizes: list[int]) -> None:
    offered = {f"slot{i}": [f"p{j}" for j in range(size)] for i, size in enumerate(sizes)}
    made = c.pairs(offered)
    held = {pair for one in made for pair in itertools.combinations(one.items(), 2)}
    for a, b in itertools.combinations(offered, 2):
        assert {((a, x), (b, y)) for x in offered[a] for y in offered[b]} <= held
    assert all(list(one) == list(offered) for one in made)
    largest = sorted(sizes)[-1] * sorted(sizes)[-2]
    assert largest <= len(made) <= 2 * largest + 5
    assert made == c.pairs(offered)


def test_the_product_holds_every_triple_that_meets_and_every_other_part() -> None:
    offered = c.parts()
    made = list(c.product(offered))
    triples = [tuple(one[field] for field in c.MEETING[:3]) for one in made]
    assert (
        len(set(triples))
        == len(made)
        == len(offered["position"]) * len(offered["attention"]) * len(offered["mask"])
    )
    for field in c.MEETING[3:]:
        assert {one[field] for one in made} == set(offered[field])


def test_every_pair_of_parts_is_sound() -> None:
    shipped = {
        (part.slot, part.name) for part in registry.components() if part.origin.kind in {"core", "folder"}
    }
    offered = {
        f: [name for name in names if (f"model.{f}", name) in shipped] for f, names in c.parts().items()
    }
    trials = [c.attempt(one) for one in c.pairs(offered)]
    alone = [c.attempt(one) for one in c.not_met(trials, offered)]
    failed = [f"{c._words(t.parts)}: {t.told}" for t in [*trials, *alone] if t.status == "failed"]
    assert not failed, "\n".join(failed)
    assert sum(trial.status == "sound" for trial in trials) > 0.6 * len(trials)
    refused = [trial for trial in alone if trial.status == "refused"]
    assert len(c.not_met([*trials, *alone], offered)) == len(refused)
    assert {trial.parts["attention"] for trial in refused} <= {"linear", "retention"}


class ForgetsUnderAWindow(MultiHead):
    """Sound alone and under the causal mask; wrong together with another."""

    def forward(self, x, step):
        y = super().forward(x, step)
        return y if self.mask.is_causal or step.cache is None else y * 0.9


def test_parts_that_are_wrong_together_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._registered, ("model.attention", "wrong"), ForgetsUnderAWindow)
    plain = {
        "position": "sinusoidal",
        "attention": "wrong",
        "norm": "layer",
        "feed_forward": "mlp",
        "block": "pre",
    }
    assert c.attempt({**plain, "mask": "causal"}).status == "sound"
    found = c.attempt({**plain, "mask": "sliding_window"})
    assert (found.status, "Decoded from token" in found.told) == ("failed", True)
    refused = c.attempt({**plain, "attention": "multi_head", "mask": "no_such_mask"})
    assert refused.status == "refused"
    page = c.report([found, refused, found], {"mask": ["causal"]})
    assert "3 combinations: 0 sound, 1 refused, 2 failed." in page
    assert "mask=sliding_window" in page.split("## Failed")[1]


def test_words_that_mean_nothing() -> None:
    with pytest.raises(UserError, match="pairs"):
        c.main(["triples"])
