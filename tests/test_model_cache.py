"""Decoding from a cache against the full forward pass, at every split and after every operation."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptkit.errors import UserError
from tiny import VOCAB, close, some_tokens, tiny

LENGTH = 9
POSITIONS = ["none", "sinusoidal", "learned"]
ATTENTIONS = {
    "multi_head": {},
    "grouped_query": {"n_kv_heads": 2},
    "multi_query": {"n_kv_heads": 1},
    "summed_heads": {},
    "unnormalised": {},
}
MASKS = {
    "causal": "causal",
    "window": {"causal": {}, "sliding_window": {"window": 3}},
    "documents": ["causal", "document"],
    "padding": ["padding", "causal"],
    "all": {"causal": {}, "sliding_window": {"window": 4}, "document": {}, "padding": {}},
    "matrix": {"causal": {}, "explicit": {"matrix": [[(i * j + i) % 3 % 2 for j in range(9)] for i in range(9)]}},
}  # fmt: skip
DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2], [5, 5, 5, 5, 5, 5, 3, 3, 3]])
PADDING = torch.tensor([[True, True] + [False] * 7, [False] * 4 + [True] + [False] * 2 + [True] * 2])


def _model(position: str, attention: str, mask: str, kernel: str = "sdpa", **more):
    name = "grouped_query" if attention == "multi_query" else attention
    node = {"name": name} if name == "unnormalised" else {"name": name, "kernel": kernel}
    return tiny(position=position, attention=node, mask=MASKS[mask], **ATTENTIONS[attention], **more)


def _told(mask: str) -> dict[str, torch.Tensor]:
    told = {"documents": DOCUMENTS} if mask in ("documents", "all") else {}
    return {**told, "padding": PADDING} if mask in ("padding", "all") else told


def _read(model, tokens, cuts, told, caches):
    """The logits of all tokens, read in pieces."""
    pieces = []
    for start, end in zip([0, *cuts], [*cuts, tokens.shape[1]], strict=True):
        now = {name: fact[:, start:end] for name, fact in told.items()}
        pieces.append(model(tokens[:, start:end], caches=caches, **now))
    return torch.cat(pieces, 1)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("position", POSITIONS)
@torch.no_grad()
def test_a_cache_changes_no_number_wherever_the_text_is_split(position, attention, mask):
    model, tokens, told = _model(position, attention, mask), some_tokens(2, LENGTH), _told(mask)
    full = model(tokens, **told)
    real = ~PADDING if "padding" in told else torch.ones(2, LENGTH, dtype=torch.bool)
    for cut in range(1, LENGTH):
        for cuts in ([cut], list(range(cut, LENGTH))):  # the rest at once; the rest one by one
            caches = model.new_caches(2, LENGTH)
            ours = _read(model, tokens, cuts, told, caches)
            close(ours[real], full[real])
            assert ours.isfinite().all()
            assert caches.length == LENGTH


@pytest.mark.parametrize("kernel", ["eager", "flex"])
@pytest.mark.parametrize("attention", ["grouped_query", "summed_heads"])
@torch.no_grad()
def test_every_kernel_reads_a_cache(attention, kernel):
    model, tokens, told = (
        _model("learned", attention, "all", kernel, n_layers=1),
        some_tokens(2, LENGTH),
        _told("all"),
    )
    full = _model("learned", attention, "all", n_layers=1)(tokens, **told)
    ours = _read(model, tokens, [7, 8], told, model.new_caches(2, LENGTH))
    close(ours[~PADDING], full[~PADDING])


@pytest.mark.parametrize("position", ["alibi", "rotary"])
@pytest.mark.parametrize("attention", ATTENTIONS)
@torch.no_grad()
def test_plugins_and_layers_that_differ_read_a_cache(position, attention):
    layers = {"1": {"position": "none", "mask": "causal"}}
    model, tokens, told = (
        _model(position, attention, "all", layers=layers),
        some_tokens(2, LENGTH),
        _told("all"),
    )
    full = model(tokens, **told)
    for cuts in ([3], [1, 4, 5, 6, 8]):
        close(_read(model, tokens, cuts, told, model.new_caches(2, LENGTH))[~PADDING], full[~PADDING])


@torch.no_grad()
def test_patterns_from_a_cache_are_the_rows_of_the_whole():
    model, tokens = tiny(), some_tokens(2, LENGTH)
    whole, part = [], []
    model(tokens, patterns=whole)
    caches = model.new_caches(2, LENGTH)
    model(tokens[:, :5], caches=caches)
    model(tokens[:, 5:7], caches=caches, patterns=part)
    for one, other in zip(part, whole, strict=True):
        close(one, other[:, :, 5:7, :7])


@pytest.mark.parametrize("block", ["post", "parallel"])
@torch.no_grad()
def test_prefix_masks_read_a_cache_once_the_prefix_is_in(block):
    model, tokens = tiny(mask={"prefix": {"length": 3}}, block=block), some_tokens(2, LENGTH)
    for told in ({}, {"prefix": torch.tensor([4, 0])}):
        full = model(tokens, **told)
        for cut in range(4, LENGTH):
            caches = model.new_caches(2, LENGTH)
            pieces = [model(piece, caches=caches, **told) for piece in (tokens[:, :cut], tokens[:, cut:])]
            close(torch.cat(pieces, 1), full)


# Going back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["causal", "all"])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("position", [*POSITIONS, "alibi", "rotary"])
@torch.no_grad()
def test_a_cache_goes_back_and_reads_on(position, attention, mask):
    model, told = _model(position, attention, mask), _told(mask)
    draft, tokens = some_tokens(2, LENGTH, seed=1), some_tokens(2, LENGTH)
    draft[:, :4] = tokens[:, :4]
    full = model(tokens, **told)
    caches = model.new_caches(2, LENGTH)
    _read(model, draft[:, :7], [], {name: fact[:, :7] for name, fact in told.items()}, caches)
    caches.truncate(4)
    assert caches.length == 4
    rest = {name: fact[:, 4:] for name, fact in told.items()}
    real = ~PADDING[:, 4:] if "padding" in told else slice(None)
    close(_read(model, tokens[:, 4:], [2], rest, caches)[real], full[:, 4:][real])
    caches.truncate(0)
    whole = ~PADDING if "padding" in told else slice(None)
    close(_read(model, tokens, [3], told, caches)[whole], full[whole])


@torch.no_grad()
def test_going_back_to_where_it_is_not_yet_changes_nothing():
    model, tokens = tiny(position="alibi"), some_tokens(2, 9)
    caches = model.new_caches(2, 9)
    model(tokens[:, :4], caches=caches)
    caches.truncate(7)
    caches.slide(7)
    assert (caches.length, caches.origin) == (4, 0)
    close(model(tokens[:, 4:], caches=caches), model(tokens)[:, 4:])


# Moving on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("position", ["none", "alibi", "rotary"])
@torch.no_grad()
def test_a_cache_that_slides_reads_what_it_kept(position, attention):
    """In one layer, the next token after a slide reads the kept tokens alone, wherever they stand."""
    model, tokens = _model(position, attention, "causal", n_layers=1), some_tokens(2, 30)
    assert model.position.is_relative
    caches, kept = model.new_caches(2, 8, slide=True), 0
    for start in range(30):
        if caches.length == caches.capacity:
            caches.slide(5)
        first = start - caches.length
        ours = model(tokens[:, start : start + 1], caches=caches)
        close(ours, model(tokens[:, first : start + 1])[:, -1:], 1e-11)
        kept = max(kept, start + 1 - first)
    assert kept == 8
    assert caches.origin > 8


@pytest.mark.parametrize("slide", [True, False])
@pytest.mark.parametrize("position", ["none", "alibi", "rotary", "sinusoidal"])
@torch.no_grad()
def test_a_window_over_an_endless_text_needs_no_more_than_the_window(position, slide):
    """Two layers that read 4 tokens back: keeping 3 before each new one loses nothing, for ever."""
    model = tiny(position=position, mask={"causal": {}, "sliding_window": {"window": 4}})
    tokens = some_tokens(2, 40)
    full, caches = model(tokens), model.new_caches(2, 5, slide=slide)
    for start in range(0, 40, 2):
        caches.slide(3)
        close(model(tokens[:, start : start + 2], caches=caches), full[:, start : start + 2], 1e-11)
    assert (caches.length, caches.origin) == (5, 35)


@pytest.mark.parametrize("position", ["alibi", "rotary", "sinusoidal"])
@torch.no_grad()
def test_rows_of_different_lengths_slide_together(position):
    model = tiny(position=position, mask={"causal": {}, "sliding_window": {"window": 4}, "padding": {}})
    texts = [some_tokens(1, 20, seed=1), some_tokens(1, 25, seed=2)]
    tokens = torch.cat([torch.cat([torch.full((1, 5), 3), texts[0]], 1), texts[1]])
    padding = torch.zeros(2, 25, dtype=torch.bool)
    padding[0, :5] = True
    caches, pieces = model.new_caches(2, 9, slide=True), []
    for start, end in [(0, 7), (7, 9), *((i, i + 1) for i in range(9, 25))]:
        if caches.length + end - start > caches.capacity:
            caches.slide(5)
        told = {"padding": padding[:, start:end]} if end < 10 else {}  # later tokens are all real
        pieces.append(model(tokens[:, start:end], caches=caches, **told))
    ours = torch.cat(pieces, 1)
    close(ours[:1, 5:], model(texts[0]), 1e-11)
    close(ours[1:], model(texts[1]), 1e-11)


@torch.no_grad()
def test_a_finished_row_may_be_padded_up_to_the_last_position():
    """A row that holds as many tokens as there are positions, and padding after them."""
    model = tiny(position="learned", mask=["causal", "padding"])
    tokens, caches = some_tokens(2, 14), model.new_caches(2, 14)
    padding = torch.zeros(2, 14, dtype=torch.bool)
    padding[0, 12:], padding[1, :2] = True, True
    model(tokens[:, :12], padding=padding[:, :12], caches=caches)
    ours = torch.cat(
        [model(tokens[:, i : i + 1], padding=padding[:, i : i + 1], caches=caches) for i in (12, 13)], 1
    )
    close(ours[1], model(tokens[1:, 2:])[0, -2:])
    assert ours.isfinite().all()


@pytest.mark.parametrize("position", ["learned", "alibi"])
@torch.no_grad()
def test_padding_may_begin_after_a_prompt_that_had_none(position):
    model, tokens = tiny(position=position), some_tokens(2, 10)
    padding = torch.zeros(2, 10, dtype=torch.bool)
    padding[0, 5:7] = True
    caches = model.new_caches(2, 10)
    pieces = [model(tokens[:, :4], caches=caches)]
    pieces += [model(tokens[:, i:j], padding=padding[:, i:j], caches=caches) for i, j in ((4, 6), (6, 7))]
    pieces += [model(tokens[:, 7:], caches=caches)]
    ours = torch.cat(pieces, 1)
    close(ours[0][~padding[0]], model(tokens[:1, ~padding[0]])[0])
    close(ours[1:], model(tokens[1:]))


RELATIVE = {
    name: tiny(position=name, mask={"causal": {}, "sliding_window": {"window": 3}}, n_layers=2)
    for name in ("none", "alibi", "rotary")
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from([*RELATIVE]),
    capacity=st.integers(4, 9),
    slide=st.booleans(),
    steps=st.lists(
        st.tuples(st.sampled_from(["read", "read", "read", "back", "slide"]), st.integers(1, 5)), max_size=14
    ),
)
@torch.no_grad()
def test_any_order_of_reading_going_back_and_sliding(name, capacity, slide, steps):
    model, caches, text = (
        RELATIVE[name],
        model_caches(name, capacity, slide),
        torch.zeros(1, 0, dtype=torch.long),
    )
    for count, (what, number) in enumerate(steps):
        dropped = text.shape[1] - caches.length
        if what == "read" and caches.length + number <= capacity:
            new = some_tokens(1, number, seed=count)
            text = torch.cat([text, new], 1)
            close(model(new, caches=caches), model(text)[:, -number:], 1e-11)
        elif what == "back" and (dropped == 0 or number >= 2) and number <= caches.length:
            caches.truncate(number)
            text = text[:, : dropped + number]
        elif what == "slide" and number >= 2:  # the window reads two tokens back
            caches.slide(number)
        assert caches.length <= capacity


def model_caches(name: str, capacity: int, slide: bool):
    return RELATIVE[name].new_caches(1, capacity, slide=slide)


# Limits ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_full_cache_says_so_and_is_left_as_it_was():
    model, tokens = tiny(), some_tokens(2, 12)
    caches = model.new_caches(2, 6)
    model(tokens[:, :4], caches=caches)
    with pytest.raises(UserError, match=r"holds 4 of 6 tokens; 3 more do not fit.*new_caches.*slide"):
        model(tokens[:, 4:7], caches=caches)
    close(model(tokens[:, 4:6], caches=caches), model(tokens[:, :6])[:, 4:])


@pytest.mark.parametrize(("attention", "width"), [("multi_head", 4 * 8), ("grouped_query", 2 * 8),
                                                  ("multi_query", 8), ("summed_heads", 4 * (4 + 16))])  # fmt: skip
@torch.no_grad()
def test_bytes_are_those_of_keys_and_values(attention, width):
    model = _model("none", attention, "causal")
    caches = model.new_caches(3, 10)
    assert (caches.length, caches.capacity, caches.bytes) == (0, 10, 0)
    model(some_tokens(3, 7), caches=caches)
    assert (caches.length, caches.capacity) == (7, 10)
    assert caches.bytes == 2 * 3 * 7 * width * 8  # layers, rows, tokens, numbers, bytes of a number


@torch.no_grad()
def test_a_cache_may_hold_a_shorter_type():
    model, tokens = tiny(spread=0.1).float(), some_tokens()
    caches = model.new_caches(2, 9, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        ours = _read(model, tokens, [5, 6, 7, 8], {}, caches)
    assert caches.layers[0].keys.dtype == torch.bfloat16
    close(ours.float(), model(tokens), 0.05)


def test_a_cache_keeps_no_history_of_gradients():
    model, caches = tiny(), None
    with torch.inference_mode():
        caches = model.new_caches(2, 9)
        model(some_tokens(length=5), caches=caches)
    assert not caches.layers[0].keys.requires_grad
    assert model.shape.vocab_size == VOCAB
