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
from gptkit.pictures import Figure
from gptkit.view import callbacks, curves, heads, influence, streams, written
from gptkit.view.gallery import Gallery, _figures, gallery, presets_by_part
from gptkit.view.gallery_page import html, markdown
from gptkit.view.small import small

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
DRAWN = {
    "model.position", "model.mask", "model.attention", "model.feed_forward", "model.norm", "model.block",
    "model.embedding", "model.head", "model.init", "tokenizer", "data", "optimizer", "schedule", "sampler",
    "callback",
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
        ("data", "text"),  # which is its user's
        ("callback", "time_limit"),  # which only a clock decides
        *(("tokenizer", name) for name in ("p50k_base", "cl100k_base", "o200k_base")),  # to be downloaded
    }


def test_the_committed_pictures_are_those_that_are_drawn(made: Gallery) -> None:
    """Freshened by `make gallery`."""
    shipped = {(c.slot, c.name) for c in registry.components(None) if c.origin.kind in {"core", "folder"}}
    drawn = {
        f"{e.slot}.{e.name}.svg"
        for entries in made.entries.values()
        for e in entries
        if e.picture and (e.slot, e.name) in shipped
    }
    assert {path.name for path in (ROOT / "docs" / "images" / "parts").iterdir()} == drawn


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_shows_a_picture_of_its_own_part(folder: Path) -> None:
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (folder / "README.md").read_text("utf-8"))
    own = {
        f"{c.slot}.{c.name}.svg"
        for c in registry.components(None)
        if c.origin.kind == "folder" and c.origin.location == folder
    }
    pictures = {(folder / link).resolve() for link in shown}
    assert all(picture.is_file() for picture in pictures)
    assert own & {
        picture.name for picture in pictures if picture.parent == ROOT / "docs" / "images" / "parts"
    }


def test_a_part_is_drawn_alike_each_time(made: Gallery) -> None:
    drawn = {(e.slot, e.name): e.picture for entries in made.entries.values() for e in entries}
    torch.manual_seed(2)
    again = {(e.slot, e.name): e.picture for entries in gallery().entries.values() for e in entries}
    assert {part for part, picture in again.items() if picture != drawn[part]} == set()


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


def test_a_place_learns_from_the_tokens_that_its_head_predicts() -> None:
    """The next one alone; or n of them, whose shares of the gradient follow their weight."""
    node = {"name": "multi_token", "ahead": 3, "weight": 0.5}
    plain, further = (
        heads.learned(small({"head": head}, context_length=8)) for head in ("language_model", node)
    )
    assert not plain[:, 0].any()
    assert np.allclose(plain[:, 1:] - np.diag(np.diag(plain[:, 1:])), 0, atol=1e-6)
    shares = [np.diag(further, ahead)[:6] / np.diag(plain, 1)[:6] for ahead in (1, 2, 3)]
    assert np.allclose(shares[0], 1, atol=1e-4)
    assert np.allclose(shares[1:], 0.25, rtol=0.1)  # each loss has a layer of its own before it
    assert np.allclose(np.triu(further, 4), 0, atol=1e-6)


def test_what_stands_in_for_a_weight_is_drawn_beside_it() -> None:
    plain = callbacks.observed(registry.load("callback", "early_stop")())
    averaged = callbacks.observed(registry.load("callback", "ema")())
    assert plain.trained == plain.judged == averaged.trained
    assert (averaged.end, len(averaged.losses)) == (None, 50)
    weights = np.array(averaged.trained)[:, 1]
    means = weights.cumsum() / np.arange(1, len(weights) + 1)  # as it is up to 1 / (1 - decay)
    assert np.allclose(np.array(averaged.judged)[:, 1], means, atol=1e-6)


def test_a_run_is_drawn_to_where_it_was_ended() -> None:
    run = callbacks.observed(registry.load("callback", "early_stop")(patience=2))
    losses = [loss for step, loss in run.losses if step <= (run.end or 0)]
    assert min(losses) == losses[-3]
    assert not list(callbacks.callback(registry.find("callback", "time_limit"), {}))


def test_a_block_of_several_streams_is_drawn_by_what_they_hear() -> None:
    """At first a stream goes on as it is, and all hear the two that its sublayers read."""
    first, second = streams.mixing(small({"block": "hyper_connections"}, n_layers=2))
    for matrix, read in ((first, (0, 1)), (second, (2, 3))):
        others = [stream for stream in range(4) if stream not in read]
        assert np.allclose(matrix[np.ix_(others, others)], np.eye(2), atol=1e-6)
        assert np.allclose(matrix[np.ix_(read, others)], 0, atol=1e-6)
        assert (matrix[:, read] > 0.05).all()
    [figure] = figures_of("model.block", "hyper_connections")
    assert figure.body.count('class="off"') == 2 * 4 * 16  # at first and trained, 4 blocks


@pytest.mark.parametrize("name", ["byte", "char", "gpt2"])
def test_a_tokenizer_is_drawn_as_its_tokens(name: str) -> None:
    [figure] = figures_of("tokenizer", name)
    pieces = re.findall(r'middle">([^<]+)</text></g>', figure.body)
    text = "".join(pieces).replace("·", " ")
    assert text.replace("C3A9", "é") == written.SENTENCE
    assert f">{len(pieces)} tokens for 40 characters<" in figure.body


def test_nothing_is_downloaded_for_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from gptkit.text.tokenizers import ranks

    monkeypatch.setattr(ranks, "published_ranks", lambda *given: pytest.fail("it was looked for"))
    assert not figures_of("tokenizer", "cl100k_base")


def test_what_is_scored_of_an_example_is_marked() -> None:
    trained, *asked = figures_of("data", "copy")
    for figure in (trained, *asked):
        boxes = re.findall(r"var\(--(\w+)\).*?middle\">([^<]+)<", figure.body)
        prompt, answer = ("".join(text for is_, text in boxes if is_ == kind) for kind in ("off", "blue"))
        assert prompt.replace("&gt;", ">") == f"{answer[:-1]}>"
        assert answer[-1] == "⏎"
    assert "length 30, which is not trained on" in asked[-1].body


def figures_of(slot: str, name: str) -> list[Figure]:
    return list(_figures(registry.find(slot, name)))
