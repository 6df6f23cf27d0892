"""What is shown of a model is what was composed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gptkit.cli.show import look, vocabulary
from gptkit.compose import compose
from gptkit.model.assemble import build
from gptkit.model.dry_run import bare_copy
from gptkit.model.interfaces import Block, Step
from gptkit.view.formula import block_formula
from gptkit.view.layers import layer_kinds, named
from gptkit.view.sheet import Sheet, facts
from gptkit.view.tables import part_lines
from gptkit.view.tree import tree_lines


def seen(*words: str, **options: Any) -> Sheet:
    return look(compose(["model=nano", "tokenizer=byte", *words]), **options)


def tree(sheet: Sheet, width: int = 80) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in tree_lines(sheet, width)]


def test_gpt2_from_top_to_bottom() -> None:
    sheet = look(compose(["model=gpt2", "tokenizer=gpt2"]))
    assert tree(sheet) == [
        "tokens                                                                    [B, T]",
        "├─ embedding  token dropout=0.1                                      [B, T, 768]",
        "│             weight 50,257 × 768",
        "├─ position   learned                                                [B, T, 768]",
        "│             added to the tokens: weight 1,024 × 768",
        "├─ blocks 0–11 (× 12)  pre dropout=0.1                               [B, T, 768]",
        "│  │  y = x + dropout(attention(norm(x)))",
        "│  │  x = y + dropout(feed_forward(norm(y)))",
        "│  ├─ norm          layer eps=1e-05 bias=true",
        "│  ├─ attention     multi_head bias=true dropout=0.1 kernel=sdpa",
        "│  │                qkv 768 → 2,304, out 768 → 768",
        "│  │                who reads whom [B, 12, T, T]: causal",
        "│  ├─ norm          layer eps=1e-05 bias=true",
        "│  └─ feed_forward  mlp activation=gelu_tanh bias=true",
        "│                   up 768 → 3,072, down 3,072 → 768",
        "├─ norm       layer eps=1e-05 bias=true                              [B, T, 768]",
        "└─ head       language_model tied=true bias=false                 [B, T, 50,257]",
        "              reads the embedding's own table",
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["block=pre"], ["y = x + attention(norm(x))", "x = y + feed_forward(norm(y))"]),
        (["block=post"], ["y = norm(x + attention(x))", "x = norm(y + feed_forward(y))"]),
        (["block=parallel"], ["y = norm(x)", "x = x + attention(y) + feed_forward(y)"]),
        (
            ["block=parallel", "model.block.shared_norm=false"],
            ["x = x + attention(norm(x)) + feed_forward(norm(x))"],
        ),
        (["feed_forward=none"], ["x = x + attention(norm(x))"]),
        (["feed_forward=none", "norm=none"], ["x = x + attention(x)"]),
        (
            ["model.block.dropout=0.1"],
            ["y = x + dropout(attention(norm(x)))", "x = y + dropout(feed_forward(norm(y)))"],
        ),
    ],
)
def test_what_a_block_computes(words: list[str], expected: list[str]) -> None:
    assert seen(*words).formulas[0][0] == expected


class Scaled(Block):
    """A stranger's block: a gate of its own, sums scaled, a norm after each part as well."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.first, self.last = inner.attention_norm, inner.feed_forward_norm
        self.attention, self.feed_forward = inner.attention, inner.feed_forward
        self.gate = torch.nn.Linear(128, 128, device="meta")

    def forward(self, x: Tensor, step: Step) -> Tensor:
        y = 0.5 * x + self.last(self.attention(self.first(x), step))
        return (y + self.gate(x)) * self.feed_forward(y).tanh() - x


def test_a_block_that_nobody_knows_is_told_as_it_is_written() -> None:
    model = bare_copy(build(compose(["model=nano", "tokenizer=byte"]), vocab_size=9, device="meta"))
    model.blocks[0] = Scaled(model.blocks[0])
    formula, order = block_formula(model, 0)
    assert formula == [
        "y = x * 0.5 + norm(attention(norm(x)))",
        "x = (y + gate(x)) * tanh(feed_forward(y)) - x",
    ]
    assert order == ["first", "attention", "last", "gate", "feed_forward"]


def test_a_block_that_cannot_run_is_told_by_its_parts() -> None:
    class Broken(Scaled):
        def forward(self, x: Tensor, step: Step) -> Tensor:
            return x if bool(x.sum() > 0) else -x

    model = bare_copy(build(compose(["model=nano", "tokenizer=byte"]), vocab_size=9, device="meta"))
    model.blocks[0] = Broken(model.blocks[0])
    assert block_formula(model, 0) == ([], [])


def test_layers_that_differ_stand_apart() -> None:
    layers = 'model.layers={"3::4": {position: none, mask: causal, block: post}}'
    sheet = seen("position=rotary", "mask=[causal,sliding_window]", layers, "model.n_layers=8")
    assert [kind.layers for kind in sheet.kinds] == [(0, 1, 2, 4, 5, 6), (3, 7)]
    lines = tree(sheet)
    apart = next(i for i, line in enumerate(lines) if "blocks 3, 7 (× 2)" in line)
    assert lines[apart].startswith("├─ blocks 3, 7 (× 2)  as above, but")
    assert [line.strip("│ ") for line in lines[apart + 1 : apart + 6]] == [
        "y = norm(x + attention(x))",
        "x = norm(y + feed_forward(y))",
        "position none",
        "mask causal",
        "block post dropout=0.0",
    ]
    assert "position rotary base=10000.0 fraction=1.0" in " ".join(lines)


def test_what_is_not_there_is_not_drawn() -> None:
    assert tree(seen("model=bigram")) == [
        "tokens                                                                    [B, T]",
        "├─ embedding  token dropout=0.0                                      [B, T, 128]",
        "│             weight 256 × 128",
        "├─ position   none                                                   [B, T, 128]",
        "│             nothing is told",
        "└─ head       language_model tied=false bias=false                   [B, T, 256]",
        "              table 256 × 128",
    ]
    assert "norm" not in " ".join(tree(seen("norm=none")))
    assert (
        sum("norm" in line for line in tree(seen("block=post"))) == 4
    )  # the formula's two, and none at the end


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_too_wide(width: int) -> None:
    explicit = f"model.mask={{explicit: {{matrix: {[[1] * 9] * 9}}}, sliding_window: {{window: 12}}, prefix: {{length: 3}}}}"
    sheet = seen(
        explicit, "position=rotary", "attention=grouped_query", "model.n_kv_heads=2", "block=parallel"
    )
    assert max(map(len, tree(sheet, width))) <= width


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([3], "3"),
        ([0, 1, 2], "0–2"),
        ([0, 1, 3], "0–1, 3"),
        ([3, 7, 11, 15], "3, 7, … 15"),
        ([0, 1, 2, 4, 5, 6], "0–2, 4–6"),
        ([i for i in range(48) if i % 4 < 3], "0–2, 4–6, 8–10, 12–14, …, 44–46"),
    ],
)
def test_layer_numbers_in_short(layers: list[int], expected: str) -> None:
    assert named(layers) == expected


def test_later_slices_change_earlier_ones() -> None:
    section = compose(
        ["model=nano", "tokenizer=byte", 'model.layers={"1:": {norm: none}, "-1": {norm: layer}}']
    )["model"]
    kinds = layer_kinds(section, 4)
    assert sorted((kind.layers, kind.parts["norm"]["name"]) for kind in kinds) == [
        ((0, 3), "layer"),
        ((1, 2), "none"),
    ]


def test_masks_are_those_of_the_model() -> None:
    sheet = seen("mask=[causal,sliding_window]", "model.mask.sliding_window.window=3")
    (mask,) = sheet.masks
    at = np.arange(64)
    expected = (at[:, None] >= at) & (at[:, None] - at < 3)
    assert (mask.matrix == expected).all()
    assert (mask.note, mask.span) == ("causal and sliding_window(window=3)", 64)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("mask=[causal,any]", "model.mask.any.of={sliding_window: {window: 3}, full: null}"),
            "causal and (sliding_window(window=3) or full)",
        ),
        (
            ("mask=[causal,not]", "model.mask.not.of={name: sliding_window, window: 3}"),
            "causal and not sliding_window(window=3)",
        ),
        (
            ("mask=not", "model.mask.not.of={causal: {}, any: {of: {prefix: {length: 2}, document: {}}}}"),
            "not (causal and (prefix(length=2) or document))",
        ),
    ],
)
def test_masks_within_masks_are_told(words: tuple[str, ...], told: str) -> None:
    (mask,) = seen(*words).masks
    assert mask.note.split(", for example")[0] == told


def test_masks_that_need_a_batch_are_shown_with_an_example() -> None:
    (mask,) = seen("mask=[causal,document]", most=6).masks
    assert mask.matrix.astype(int).tolist() == np.kron(np.eye(3, dtype=int), [[1, 0], [1, 1]]).tolist()
    assert mask.note == "causal and document, for example with three documents in a row"
    (mask,) = seen("mask=[causal,padding]", most=16).masks
    assert not mask.matrix[:, 14:].any()
    (mask,) = seen("mask=prefix", most=12).masks
    assert mask.matrix[0].tolist() == [1, 1] + 10 * [0]
    assert mask.note == "prefix(length=0), for example with a sixth of the text as prefix"
    (mask,) = seen("mask=prefix", "model.mask.prefix.length=4", most=6).masks
    assert mask.matrix[0].tolist() == [1, 1, 1, 1, 0, 0]
    assert mask.note == "prefix(length=4)"


def test_a_matrix_of_ones_own_is_shown_to_its_end() -> None:
    (mask,) = seen("model.mask={explicit: {matrix: [[1, 0], [0, 1]]}}").masks
    assert mask.matrix.tolist() == [[1, 0], [0, 1]]
    assert mask.note == "explicit, ends at 2 positions"


def test_masks_of_a_long_context_take_little_room() -> None:
    (mask,) = seen("model.context_length=50000", "position=none").masks
    assert mask.matrix.shape == (1024, 1024)
    assert mask.span == 50000
    assert mask.matrix.mean() == pytest.approx(0.5, abs=0.01)


def test_each_layer_kind_shows_its_mask() -> None:
    sheet = seen('model.layers={"1": {mask: full}}')
    assert [(mask.title, mask.note) for mask in sheet.masks] == [
        ("Mask, layers 0, 2–3", "causal"),
        ("Mask, layer 1", "full"),
    ]


def test_sinusoidal_positions_by_the_formula() -> None:
    (sight,) = seen("position=sinusoidal", most=10).positions
    at, j = np.arange(10)[:, None], np.arange(128)
    angle = at / 10000 ** ((j - j % 2) / 128)
    np.testing.assert_allclose(sight.matrix, np.where(j % 2, np.cos(angle), np.sin(angle)), atol=1e-6)
    assert (sight.down, sight.across) == ("position", "dimension")


def test_learned_positions_are_those_that_training_starts_from() -> None:
    config = compose(["model=nano", "tokenizer=byte", "seed=5"])
    (sight,) = look(config).positions
    weight = build(config, vocab_size=256).position.weight.detach()
    assert torch.equal(torch.from_numpy(sight.matrix).float(), weight)


def test_rotations_by_distance() -> None:
    (sight,) = seen("position=rotary", most=12).positions
    pair = np.arange(32) % 16
    expected = np.cos(np.arange(12) * 10000.0 ** (-2 * pair[:, None] / 32))
    np.testing.assert_allclose(sight.matrix, expected, atol=1e-6)


def test_rotations_of_shared_keys() -> None:
    words = ("attention=grouped_query", "model.n_kv_heads=1")
    assert (
        seen("position=rotary", *words).positions[0].matrix == seen("position=rotary").positions[0].matrix
    ).all()


def test_biases_by_distance() -> None:
    (sight,) = seen("position=alibi", most=12).positions
    slopes = np.array([2.0 ** (-2 * h) for h in (1, 2, 3, 4)])
    np.testing.assert_allclose(sight.matrix, -slopes[:, None] * np.arange(12), rtol=1e-12)


def test_no_positions_at_all() -> None:
    assert seen("position=none").positions == []
    assert seen("model=bigram", "position=alibi").positions == []


def test_positions_of_some_layers_alone() -> None:
    sheet = seen("position=sinusoidal", 'model.layers={"2:": {position: alibi}}')
    assert [sight.title for sight in sheet.positions] == [
        "Position: sinusoidal",
        "Position: alibi, layers 2–3",
    ]


def test_facts_are_plain_and_add_up() -> None:
    told = facts(seen("attention=grouped_query", "model.n_kv_heads=2"))
    model = build(
        compose(["model=nano", "tokenizer=byte", "attention=grouped_query", "model.n_kv_heads=2"]),
        vocab_size=256,
    )
    assert (
        told["parameters"]
        == sum(p.numel() for p in model.parameters())
        == sum(told["parameters_by_part"].values())
    )
    flops = told["flops_per_token"]
    assert flops["training"] == 3 * flops["forward"] == pytest.approx(3 * sum(flops["by_part"].values()))
    assert told["memory_bytes"]["cache_per_token"] == 2 * 4 * 2 * 32 * 4
    assert told["memory_bytes"]["rows"] == 12


def test_the_table_tells_every_parameter() -> None:
    sheet = seen()
    lines = ["".join(text for text, _ in line) for line in part_lines(sheet)]
    numbers = [int(line.split()[1].replace(",", "")) for line in lines[1:]]
    assert sum(numbers[:-1]) == numbers[-1] == sheet.model.n_parameters()
    assert max(map(len, lines)) <= 80


def test_the_vocabulary_is_the_tokenizers() -> None:
    assert vocabulary(compose(["tokenizer=gpt2"])) == 50257
    assert vocabulary(compose(["tokenizer=byte", "model.vocab_size=300"])) == 300
    assert 50 < vocabulary(compose(["tokenizer=char"])) < 200
