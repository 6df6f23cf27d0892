"""What is measured of a run, against plain loops and the evaluator's own figure."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gptkit.cli import main
from gptkit.compare import measure as m
from gptkit.compare.proof import seen
from gptkit.run import Run
from gptkit.text.splits import Split

WORDS = [
    "tokenizer=char", "model.n_layers=2", "model.d_model=16", "model.n_heads=2", "model.context_length=16", "data=text",
    "data.batch_size=4", "trainer.max_steps=4", "logger=none", "trainer.sample_tokens=0", "data.val_fraction=0.3", "-q",
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Tiny runs: learned and rotary with one seed, learned with another."""
    place = tmp_path_factory.mktemp("measure")
    rng = np.random.default_rng(1)
    (place / "text.txt").write_text("".join(rng.choice(list("abc de\n"), 3000)))
    made = {}
    for name, words in {"learned": [], "rotary": ["position=rotary"], "other": ["seed=2"]}.items():
        root = place / name
        assert (
            main(["train", *WORDS, f"data.path={place / 'text.txt'}", f"run_root={root}", "seed=1", *words])
            == 0
        )
        made[name] = Run(next(root.iterdir()))
    return made


@pytest.fixture(scope="module")
def found(runs: dict[str, Run]) -> dict[str, Any]:
    return {name: m.measure(run, [0.5, 1, 2]) for name, run in runs.items()}


def reading_of(run: Run) -> m.Reading:
    import gptkit

    return m.Reading(gptkit.load(run.path).eval(), m.prepare(run.config(), run.path / "tokenizer"))


def test_pairs_are_proven(found: dict[str, Any]) -> None:
    learned, rotary, other = (found[name]["proof"] for name in ("learned", "rotary", "other"))
    for key in ("batches", "evaluation", "tokenizer"):
        assert learned[key] == rotary[key]
    assert other["batches"] != learned["batches"]
    assert other["evaluation"] == learned["evaluation"]
    shared = learned["weights"].keys() & rotary["weights"].keys()
    assert len(shared) >= 14
    assert all(learned["weights"][name] == rotary["weights"][name] for name in shared)
    assert set(learned["weights"]) - shared == {"position.weight"}
    drawn = [name for name, told in learned["weights"].items() if other["weights"][name] != told]
    assert "blocks.0.attention.qkv.weight" in drawn
    assert learned["weights"]["position.weight"].startswith("16x16 ")


def test_signs_know_a_draw_at_another_scale_and_no_other(runs: dict[str, Run]) -> None:
    def told(run: Run, layers: int) -> dict[str, Any]:
        config = run.config()
        config["model"]["n_layers"] = layers
        return m.proof(config, m.prepare(config, run.path / "tokenizer"))

    two, three, other = told(runs["learned"], 2), told(runs["learned"], 3), told(runs["other"], 2)
    both = two["weights"].keys() & three["weights"].keys()
    scaled = {name for name in both if two["weights"][name] != three["weights"][name]}
    assert len(scaled) == 4
    assert all(name.endswith(("attention.out.weight", "feed_forward.down.weight")) for name in scaled)
    assert {name for name in both if two["signs"].get(name) != three["signs"].get(name)} == set()
    assert scaled <= two["signs"].keys() == other["signs"].keys()
    assert all(two["signs"][name] != other["signs"][name] for name in two["signs"])
    assert not any("norm" in name or name.endswith("bias") for name in two["signs"])  # constants are no draws


def test_loss_by_position_adds_up_to_the_validation_loss(runs: dict[str, Run], found: dict[str, Any]) -> None:
    for name, run in runs.items():
        told = found[name]["loss_by_position"]
        mean = sum(t * n for t, n in zip(told["loss"], told["count"], strict=True)) / sum(told["count"])
        assert mean == pytest.approx((run.result() or {})["val_loss"], abs=1e-6)
        assert told["positions"][0] == 0
        assert sum(told["count"]) == len(reading_of(run).split.tokens) - 1


@torch.no_grad()
def test_longer_texts_as_a_plain_loop_reads_them(runs: dict[str, Run], found: dict[str, Any]) -> None:
    reading = reading_of(runs["rotary"])
    text = torch.from_numpy(np.asarray(reading.split.tokens).astype(np.int64))
    rows = {row["tokens"]: row for row in found["rotary"]["lengths"]}
    first = 32
    end = first + min(m._SCORED, len(text) - 1 - first) // 32 * 32
    for size in (8, 16, 32):
        cut, slid = [], []
        for start in range(first, end, size):
            logits = reading.model(text[None, start : start + size])[0]
            cut.append(F.cross_entropy(logits, text[start + 1 : start + size + 1], reduction="none"))
        stride = size // 4
        for start in range(first + stride - size, end + stride - size, stride):
            logits = reading.model(text[None, start : start + size])[0, -stride:]
            slid.append(
                F.cross_entropy(logits, text[start + size - stride + 1 : start + size + 1], reduction="none")
            )
        assert rows[size]["non_overlapping"] == pytest.approx(float(torch.cat(cut).double().mean()), abs=1e-5)
        assert rows[size]["sliding"] == pytest.approx(float(torch.cat(slid).double().mean()), abs=1e-5)
        assert torch.cat(cut).numel() == torch.cat(slid).numel() == end - first
        assert rows[size]["non_overlapping_tokens"] == rows[size]["sliding_tokens"] == end - first


def test_what_cannot_be_read_is_refused_with_its_reason(runs: dict[str, Run], found: dict[str, Any]) -> None:
    rows = {row["factor"]: row for row in found["learned"]["lengths"]}
    assert "non_overlapping" in rows[1]
    assert "end at 15" in rows[2]["refused"]
    assert "non_overlapping" not in rows[2]
    long = m.longer(reading_of(runs["rotary"]), [16, 4096], [1, 256])
    assert "too few for texts of 4,096" in long[1]["skipped"]
    assert "refused" not in long[1]


def test_attention_and_cost(found: dict[str, Any]) -> None:
    seen = found["learned"]["attention_by_distance"]
    assert seen["distances"] == [0, 1, 2, 4, 8]
    assert len(seen["layers"]) == 2
    assert all(0 < weight <= 1 for layer in seen["layers"] for weight in layer)
    cost = found["rotary"]["cost"]
    assert cost["cache_bytes_per_token"] == 2 * 2 * 16 * 4
    assert cost["decode_tokens_per_second"] > 0
    assert cost["parameters"] == found["learned"]["cost"]["parameters"] - 16 * 16


def test_measuring_changes_nothing_and_is_kept(runs: dict[str, Run]) -> None:
    state = torch.get_rng_state()
    m.write(runs["other"], [1.0])
    assert torch.equal(state, torch.get_rng_state())
    held = json.loads((runs["other"].path / "measures.json").read_text())
    again = m.measure(runs["other"], [1.0])
    for part in ("proof", "loss_by_position", "lengths", "attention_by_distance"):
        assert held[part] == again[part]
    assert all(math.isfinite(v) for v in held["loss_by_position"]["loss"])


def test_proofs_notice_one_altered_token(runs: dict[str, Run], found: dict[str, Any]) -> None:
    config, told = runs["learned"].config(), found["learned"]["proof"]
    data = m.prepare(config, runs["learned"].path / "tokenizer")
    for split, key in (("train", "batches"), ("val", "evaluation")):
        tokens = np.array(getattr(data, split))
        tokens[5] = (tokens[5] + 1) % 7
        altered = m.proof(config, dataclasses.replace(data, splits={**data.splits, split: Split(tokens)}))
        assert [k for k in ("batches", "evaluation", "tokenizer") if altered[k] != told[k]] == [key]


@pytest.mark.parametrize("size", [16, 32, 64])
def test_texts_longer_than_what_is_scored_are_still_read(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(m, "_SCORED", 24)
    rows = m.longer(reading_of(runs["rotary"]), [16, size], [1, size / 16])
    assert all("refused" not in row and math.isfinite(row["sliding"]) for row in rows)


@torch.no_grad()
def test_the_early_places_are_a_quarter_of_the_context(runs: dict[str, Run], found: dict[str, Any]) -> None:
    reading = reading_of(runs["rotary"])
    text = torch.from_numpy(np.asarray(reading.split.tokens).astype(np.int64))
    end, nats = 32 + min(m._SCORED, len(text) - 33) // 32 * 32, []
    for start in range(32, end, 16):
        logits = reading.model(text[None, start : start + 16])[0, :4]
        nats.append(F.cross_entropy(logits, text[start + 1 : start + 5], reduction="none"))
    rows = {row["tokens"]: row for row in found["rotary"]["lengths"]}
    assert rows[16]["early_tokens"] == torch.cat(nats).numel()
    assert rows[16]["early"] == pytest.approx(float(torch.cat(nats).double().mean()), abs=1e-5)


@torch.no_grad()
def test_a_loss_that_is_not_finite_is_refused(runs: dict[str, Run]) -> None:
    reading = reading_of(runs["rotary"])
    next(reading.model.parameters()).fill_(math.nan)
    (row,) = m.longer(reading, [16], [1])
    assert "not a finite number" in row["refused"]
    assert "sliding" not in row


def test_the_command(runs: dict[str, Run], capsys: pytest.CaptureFixture[str]) -> None:
    path = runs["rotary"].path
    assert m.main([str(path), "--lengths", "0.5,1"]) == 0
    assert [row["factor"] for row in json.loads((path / "measures.json").read_text())["lengths"]] == [0.5, 1]
    for wrong in ([], [str(path), "--lengths", "abc"], [str(path), "--lengths", "-1"]):
        with pytest.raises(SystemExit):
            m.main(wrong)
    assert "argument --lengths" in capsys.readouterr().err
    assert m.main([str(path / "nowhere")]) != 0


def test_a_text_whose_scores_fill_the_memory_is_not_read(runs: dict[str, Run], monkeypatch: Any) -> None:
    reading = reading_of(runs["rotary"])
    context = reading.model.shape.context_length
    monkeypatch.setattr(m, "_SCORES", 4 * reading.model.shape.n_heads * (2 * context) ** 2)
    trained, fits, large = m.longer(reading, [context, 2 * context, 3 * context], [1.0, 2.0, 3.0])
    assert "non_overlapping" in trained
    assert "non_overlapping" in fits
    assert "may take" in large["skipped"]


def test_text_that_was_trained_on_is_found_token_for_token() -> None:
    rng = np.random.default_rng(0)
    train, fresh = rng.integers(0, 50, 4000), rng.integers(0, 50, 640)
    assert seen(train, fresh) == 0.0
    half = np.concatenate([train[777 : 777 + 320], fresh[:320]])
    assert seen(train, half) == 0.5
    near = half.copy()
    near[5] = (near[5] + 1) % 50  # one token of one window
    assert seen(train, near) == pytest.approx(0.4)
    assert seen(train, train[::-1].copy()) == 0.0
    assert seen(train[:10], fresh) == seen(train, fresh[:10]) == 0.0
