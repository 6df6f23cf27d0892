"""The gallery holds every part, with what its docstring says, and is safe and whole as a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gptkit import registry
from gptkit.cli import main
from gptkit.model.feed_forward import ACTIVATIONS
from gptkit.view import curves, influence
from gptkit.view.gallery import Gallery, gallery, presets_by_part
from gptkit.view.gallery_page import html, markdown

ROOT = Path(__file__).resolve().parents[1]
DRAWN = {
    "model.position", "model.mask", "model.attention", "model.feed_forward", "model.norm", "model.block",
    "model.embedding", "model.init", "optimizer", "schedule", "sampler",
}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Gallery:
    return gallery()


def test_every_part_is_there_with_its_options(made: Gallery) -> None:
    found = {(entry.slot, entry.name): entry for entries in made.entries.values() for entry in entries}
    assert set(found) >= {(c.slot, c.name) for c in registry.components(None)}
    assert not made.broken
    alibi = found["model.position", "alibi"]
    assert "Press et al. 2022" in alibi.summary
    assert (alibi.origin, alibi.command) == ("gptkit-alibi", "model/position=alibi")
    window = found["model.mask", "sliding_window"]
    assert window.command == "model/mask=[causal,sliding_window]"
    assert [(row.name, row.default) for row in window.options] == [("window", "128")]
    assert not re.search("^(Args|Raises):", "\n".join(found["model.attention", "latent"].text), re.MULTILINE)


def test_presets_tell_what_they_are_made_of() -> None:
    users = presets_by_part()
    assert {"llama2_7b", "mistral_7b"} <= set(users["model.norm", "rms"])
    assert users["model.attention", "latent"] == ("deepseek_v3",)
    assert "mistral_7b" in users["model.mask", "sliding_window"]
    assert "gemma2_2b" in users["model.mask", "sliding_window"]  # in some layers


def test_what_can_be_seen_is_drawn(made: Gallery) -> None:
    drawn = {(e.slot, e.name) for entries in made.entries.values() for e in entries if e.picture}
    bare = {
        (c.slot, c.name)
        for c in registry.components(None)
        if c.slot in DRAWN and c.origin.kind in {"core", "folder"} and (c.slot, c.name) not in drawn
    }
    assert bare <= {
        ("model.position", "none"),
        ("model.feed_forward", "none"),
        ("model.block", "hyper_connections"),  # several streams: no one formula
    }


def test_a_network_is_drawn_as_its_activation(made: Gallery) -> None:
    """Weights of 1 and one number leave the activation itself: ReLU is flat up to 0 and a line after it."""
    [figure] = curves.feed_forward(registry.find("model.feed_forward", "reglu"), {})
    drawn = re.findall(r'points="([^"]+)"', figure.body)
    heights = [float(point.split(",")[1]) for piece in drawn for point in piece.split()]
    assert len(set(heights[:80])) == 1
    assert heights[81:] == sorted(heights[81:], reverse=True)
    [every] = curves.feed_forward(registry.find("model.feed_forward", "mlp"), {})
    assert re.findall(r'y="12">(\w+)<', every.body) == list(ACTIVATIONS)


def test_a_sampler_is_drawn_by_its_chances() -> None:
    [figure] = curves.sampler(registry.find("sampler", "greedy"), {})
    assert figure.body.count(">100.0%, ") == 1
    assert figure.body.count(">0.0%, ") == 9


def test_the_page_needs_no_network_and_runs_nothing_of_a_part(made: Gallery) -> None:
    page = html(made)
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", page)
    assert "default-src 'none'" in page
    entry = made.entries["model.norm"][0]
    evil = Gallery(
        {"model.norm": [type(entry)(**{**vars(entry), "summary": "<img src=x onerror=alert(1)>"})]}
    )
    assert "<img src=x" not in html(evil)


def test_the_committed_list_names_every_part(made: Gallery) -> None:
    """Freshened by `make gallery`."""
    told = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    found = {
        (slot, name)
        for slot, rows in re.findall(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", told, re.MULTILINE | re.DOTALL)
        for name in re.findall(r"^\| `([^`]+)` \|", rows, re.MULTILINE)
    }
    shipped = {(c.slot, c.name) for c in registry.components(None) if c.origin.kind in {"core", "folder"}}
    assert found == shipped, "docs/gallery.md is not fresh: run make gallery."
    assert "## `model.position`" in markdown(made)


def test_a_part_that_cannot_be_drawn_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from gptkit.model.masks import Causal

    def fails(self: object, *given: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(Causal, "allows", fails)
    entries = {entry.name: entry for entry in gallery().entries["model.mask"]}
    assert not entries["causal"].picture
    assert entries["causal"].command == "model/mask=causal"
    assert entries["explicit"].command == "model/mask=[causal,explicit] model.mask.explicit.matrix=…"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery"]) == 2
    assert "gptkit gallery out=gallery" in capsys.readouterr().err
    assert main(["gallery", f"out={tmp_path / 'g'}"]) == 0
    assert (tmp_path / "g" / "index.html").stat().st_size > 100_000


def test_what_attention_hears_is_causal_and_its_own() -> None:
    """Nothing of later tokens; and what is estimated is the norm of the derivative."""
    seen = {}
    for name in ("multi_head", "linear"):
        heard = influence.heard(registry.find("model.attention", name), {}, probes=64)
        assert np.abs(np.triu(heard, 1)).max() == 0
        assert (np.diag(heard) > 0).all()
        seen[name] = heard
    assert not np.allclose(*seen.values())
    part, step, x = influence.alone(registry.find("model.attention", "multi_head"), {})
    jacobian: Any = torch.autograd.functional.jacobian(lambda x: part(x, step)[0, 5], x)
    whole = jacobian[:, 0]  # [D, T, D]
    exact = whole.square().sum((0, 2)).sqrt()
    assert np.allclose(seen["multi_head"][5], exact.numpy(), rtol=0.35)
