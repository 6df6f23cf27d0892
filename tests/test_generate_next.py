"""The ranked next tokens, as numbers, as bars and as a picture."""

import io
import math
import xml.etree.ElementTree as ET
from xml.sax.saxutils import unescape

import pytest
import torch
from rich.console import Console

from gptkit.errors import GptkitError, UserError
from gptkit.generate.bars import bar, percent, svg, table, visible
from gptkit.generate.next_tokens import NextToken, next_tokens
from tiny import close, tiny
from voices import Signs

SIGNS = Signs()


def model_of(**options):
    return tiny(vocab_size=SIGNS.vocab_size, **options)


@torch.no_grad()
def test_the_ranking_is_the_softmax_of_the_scores():
    model, prompt = model_of(position="learned"), "abcab"
    scores = model(torch.tensor([SIGNS.encode(prompt)]))[0, -1].tolist()
    weights = [math.exp(score) for score in scores]
    ranked = sorted(range(len(scores)), key=lambda i: -scores[i])
    ours = next_tokens(model, SIGNS, prompt, k=6)
    assert [token.id for token in ours] == ranked[:6]
    assert [token.text for token in ours] == [SIGNS.decode([i]) for i in ranked[:6]]
    for token, i in zip(ours, ranked, strict=False):
        close(token.probability, weights[i] / math.fsum(weights))
    every = next_tokens(model, SIGNS, prompt, k=1000)
    close(sum(token.probability for token in every), 1.0)
    assert len(every) == SIGNS.vocab_size
    close(sum(token.probability for token in next_tokens(model.float(), SIGNS, prompt, k=1000)), 1.0)


def test_the_prompt_is_read_as_generate_reads_it():
    model = model_of(position="learned")
    long = [i % 20 for i in range(30)]
    assert next_tokens(model, SIGNS, long) == next_tokens(model, SIGNS, long[-12:])
    assert next_tokens(model, SIGNS, "") == next_tokens(model, SIGNS, "\n")
    model.train()
    assert next_tokens(model, SIGNS, "ab") == next_tokens(model.eval(), SIGNS, "ab")


def test_equals_rank_by_number_and_a_padded_vocabulary_is_left_out():
    model = tiny(vocab_size=SIGNS.vocab_size + 3, position="none")
    with torch.no_grad():
        model.embedding.weight.zero_()
    even = next_tokens(model, SIGNS, "ab", k=50)
    assert [token.id for token in even] == list(range(SIGNS.vocab_size))
    close(even[0].probability, 1 / SIGNS.vocab_size)


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", True])
def test_k_out_of_range_is_told(k):
    with pytest.raises(UserError, match=r"k: expected a whole number of 1 or more"):
        next_tokens(model_of(), SIGNS, "ab", k=k)


def test_several_prompts_and_scores_that_are_no_numbers_are_errors():
    with pytest.raises(UserError, match="expected one, got 2"):
        next_tokens(model_of(), SIGNS, ["a", "b"])
    model = model_of()
    with torch.no_grad():
        model.embedding.weight.fill_(float("nan"))
    with pytest.raises(GptkitError, match="not numbers"):
        next_tokens(model, SIGNS, "ab")


def test_half_a_character_is_written_as_its_bytes():
    half = Signs([b"\xf0\x9f", "a"])
    model = tiny(vocab_size=2)
    assert {token.text for token in next_tokens(model, half, [1])} == {"\\xf0\\x9f", "a"}


def test_white_space_and_what_cannot_be_seen_have_signs():
    assert visible(" le\n\tchat\r") == "·le↵⇥chat␍"
    assert visible("\x1b[31m\x00\x7f") == "\\x1b[31m\\x00\\x7f"
    assert visible("\xa0\u200b\u202e\ufeff\ud800") == "\\xa0\\u200b\\u202e\\ufeff\\ud800"
    assert visible("né😀[bold]") == "né😀[bold]"


def test_bars_are_exact_to_an_eighth():
    assert bar(1.0, 10) == "█" * 10
    assert bar(0.0, 10) == ""
    assert bar(0.55, 10) == "█████▌"
    assert bar(0.55, 10, eighths=False) == "######"
    assert [bar(i / 8, 1) for i in range(9)] == ["", *"▏▎▍▌▋▊▉█"]
    assert (percent(0.1234), percent(1), percent(0.0004), percent(0)) == (
        "12.3 %",
        "100.0 %",
        "< 0.1 %",
        "0.0 %",
    )


TOKENS = [
    NextToken(" enfants", 5, 0.5),
    NextToken("\n", 6, 0.25),
    NextToken("[red]<&>\x1b" + "w" * 60, 7, 0.125),
    NextToken("", 8, 0.0001),
]


@pytest.mark.parametrize("width", [30, 80, 200])
def test_the_table_fits_any_terminal_and_reads_no_markup(width):
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(table(TOKENS, width))
    lines = out.getvalue().rstrip("\n").split("\n")
    assert len(lines) == 4
    assert all(len(line) <= width for line in lines)
    assert "·enfants" in lines[0] or width < 40
    assert lines[0].rstrip().endswith("50.0 %")
    assert "[red]" in lines[2]
    assert "\x1b" not in out.getvalue()
    full, half = (line.count("█") for line in lines[:2])
    assert abs(full - 2 * half) <= 1


def test_the_picture_is_whole_xml_with_a_bar_for_each_token():
    text = svg('Ce soir, <je> & "vais"\x00\ufffe\n' + "chercher " * 30, TOKENS)
    root = ET.fromstring(text)
    bars = [element for element in root.iter() if element.get("class") == "bar"]
    widths = [float(element.get("width") or 0) for element in bars]
    assert len(widths) == 4
    close(widths[1] / widths[0], 0.5, 1e-3)
    words = [unescape(element.text or "") for element in root.iter() if element.tag.endswith("text")]
    assert any("·enfants" in word for word in words)
    assert any("50.0 %" in word for word in words)
    ET.fromstring(svg("", []))
