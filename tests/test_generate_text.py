"""From tokens to text: characters that are spread over tokens, stop strings, and the stream."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptkit.errors import UserError
from gptkit.generate.loop import continuations, generate, stream
from gptkit.generate.samplers import Sample
from gptkit.generate.speller import Speller
from gptkit.text.tokenizers.plain import ByteTokenizer
from tiny import tiny
from voices import Signs

SIGNS = Signs()


def spell(chunks, stop=()):
    """The pieces in which byte strings come out, one token for each; ends as the loop does."""
    speller, pieces = Speller(Signs(chunks), stop), []
    for token in range(len(chunks)):
        pieces.append(speller.add(token))
        if speller.stopped:
            return pieces, True
    return [*pieces, speller.end()], False


def until_stop(text, stop):
    """The text up to the stop string that is complete first, the longest of several; sign by sign."""
    for end in range(1, len(text) + 1):
        complete = [s for s in stop if text[:end].endswith(s)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


def cut(data, places):
    """A byte string in pieces, some of them empty."""
    places = sorted(min(place, len(data)) for place in places)
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


CUTS = st.lists(st.integers(0, 60), max_size=20)
STOPS = st.lists(st.text("ab€", min_size=1, max_size=5), max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.text("ab€😀\u0301", max_size=20), CUTS, STOPS)
def test_where_a_text_ends_does_not_depend_on_its_tokens(text, places, stop):
    pieces, stopped = spell(cut(text.encode(), places), stop)
    assert ("".join(pieces), stopped) == until_stop(text, stop)
    assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12).map(str.encode), st.lists(st.integers(0, 40), max_size=12))
def test_characters_come_whole_and_as_soon_as_they_are(data, places):
    chunks = cut(data.decode(errors="ignore").encode(), places)
    pieces, _ = spell(chunks)
    read = b""
    for chunk, index in zip(chunks, range(len(chunks)), strict=True):
        read += chunk
        assert "".join(pieces[: index + 1]) == read.decode(errors="ignore")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=12), st.lists(st.integers(0, 12), max_size=6))
def test_bytes_that_are_no_text_are_replaced_and_half_a_character_at_the_end_is_left_out(data, places):
    pieces, _ = spell(cut(data, places))
    text, whole = "".join(pieces), data.decode(errors="replace")
    assert text == whole or (whole.startswith(text) and set(whole[len(text) :]) == {"\ufffd"})


@pytest.mark.parametrize("end", range(1, 4))
def test_half_a_character_at_the_end_is_left_out(end):
    pieces, _ = spell([b"a", "😀".encode()[:end]])
    assert "".join(pieces) == "a"


def test_nothing_of_a_stop_string_is_ever_given():
    pieces, stopped = spell(["x", "EN", "EN", "D", "y"], ["END"])
    assert pieces == ["x", "", "EN", ""]
    assert stopped
    pieces, stopped = spell(["aE", "N", "d"], ["END"])
    assert pieces == ["a", "", "ENd", ""]
    assert not stopped
    assert spell(["EN"], ["END"])[0] == ["", "EN"]  # no more will come, so it is none


def test_of_two_stop_strings_the_one_that_is_complete_first_counts():
    for chunks in (["abcd"], ["a", "b", "c", "d"], ["ab", "cd"]):
        assert "".join(spell(chunks, ["abcd", "bc"])[0]) == "a"
        assert "".join(spell(chunks, ["bc", "abc"])[0]) == ""


def model_of(**options):
    return tiny(
        vocab_size=SIGNS.vocab_size, head={"name": "language_model", "tied": False}, spread=0.5, **options
    )


HOT = Sample(temperature=2.0)


def test_a_stop_string_ends_a_sample_and_the_others_go_on():
    model, options = model_of(), {"max_tokens": 25, "samples": 8, "sampler": HOT}
    free = generate(model, SIGNS, "ab", **options)
    for stop in ("a", "ba", ["bab", "e"], [" ", "\n", "é"], free[3][5:9]):
        listed = [stop] if isinstance(stop, str) else stop
        ended = continuations(model, SIGNS, "ab", stop=stop, **options)
        for text, one in zip(free, ended, strict=True):
            expected, stopped = until_stop(text, listed)
            assert one.text == expected
            assert one.ended == ("stop" if stopped else "max_tokens")
            assert SIGNS.decode(one.tokens).startswith(expected)


def test_a_stop_string_may_begin_in_the_middle_of_a_token_but_not_in_the_prompt():
    model = model_of()
    text = generate(model, SIGNS, "ab", max_tokens=20, sampler="greedy")[0]
    assert generate(model, SIGNS, "ab", max_tokens=20, sampler="greedy", stop="b" + text) == [text]


@pytest.mark.parametrize("stop", [[], ["ba"], ["e", " "]])
def test_the_stream_is_the_first_sample_piece_by_piece(stop):
    model, options = model_of(), {"max_tokens": 30, "sampler": HOT, "seed": 5, "stop": stop}
    pieces = list(stream(model, SIGNS, "ab", **options))
    assert all(pieces)
    assert len(pieces) > 3
    assert "".join(pieces) == generate(model, SIGNS, "ab", samples=3, **options)[0]


def test_the_stream_gives_text_while_it_draws(monkeypatch):
    model, passes = model_of(), []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *a, **k: passes.append(1) or forward(*a, **k))
    pieces = stream(model, SIGNS, "ab", max_tokens=100, sampler=HOT)
    assert not passes
    next(pieces)
    assert len(passes) == 1
    assert not torch.is_inference_mode_enabled()
    next(pieces)
    assert len(passes) == 2
    assert next(model.parameters()).requires_grad
    model(torch.tensor([[1, 2]])).sum().backward()  # whoever reads the stream may do as he likes


def test_bytes_of_one_character_drawn_one_by_one():
    model, byte = tiny(vocab_size=256, position="none"), ByteTokenizer()
    text = "né😀€ 'ß' नमस्ते"
    data = text.encode()

    class Recite(Sample):
        """Says a text, whatever the scores."""

        def draw(self, logits, history, uniform):
            return torch.tensor([data[len(tokens) - 1] for tokens in history])

    pieces = list(stream(model, byte, "x", max_tokens=len(data), sampler=Recite()))
    assert pieces == list(text)
    for count in range(len(data)):
        said = generate(model, byte, "x", max_tokens=count, sampler=Recite())[0]
        assert said == data[:count].decode(errors="ignore")
    stopped = generate(model, byte, "x", max_tokens=len(data), sampler=Recite(), stop="€ 'ß")
    assert stopped == ["né😀"]


def test_signs_of_special_tokens_in_a_prompt_are_plain_text():
    from gptkit.generate.prompts import prompt_rows
    from gptkit.text.tokenizers.ranks import GPT2Tokenizer

    gpt2 = GPT2Tokenizer()
    tokens = prompt_rows(gpt2, "<|endoftext|>", gpt2.vocab_size)[0]
    assert gpt2.end_of_text not in tokens
    assert gpt2.decode(tokens) == "<|endoftext|>"
    assert prompt_rows(gpt2, "", gpt2.vocab_size) == [[gpt2.end_of_text]]


def test_an_option_that_is_not_there_is_told_with_the_nearest() -> None:
    import gptkit
    from gptkit.text.tokenizers import build_tokenizer

    model = gptkit.build(gptkit.compose(["debug=smoke", "tokenizer=byte"]))
    model.tokenizer = build_tokenizer({"name": "byte"}, None)
    with pytest.raises(UserError, match="no option 'max_tokns'. Did you mean 'max_tokens'"):
        model.generate("a", max_tokns=3)
    with pytest.raises(UserError, match="How tokens are drawn is the sampler's"):
        model.generate("a", temperature=0.5)
