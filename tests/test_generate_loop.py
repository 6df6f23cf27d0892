"""The loop against naive ones: with and without a cache, past the context, in batches, by seed."""

import logging
import random

import pytest
import torch

from gptkit.errors import GptkitError, PositionRangeError, UserError
from gptkit.generate.loop import continuations, generate, stream
from gptkit.generate.reader import is_causal, is_relative
from gptkit.generate.samplers import Greedy, Sample
from tiny import tiny
from voices import Signs, cropped, naive, whole

CONTEXT = 12
SIGNS = Signs()
V = SIGNS.vocab_size
RELATIVE, ABSOLUTE = ["none", "rotary", "alibi"], ["learned", "sinusoidal"]
ATTENTIONS = ["multi_head", "grouped_query", "summed_heads", "unnormalised"]
VARIED = Sample(temperature=0, repetition_penalty=3.0)  # greedy that does not come to repeat itself
SAMPLERS = [VARIED, Sample(temperature=1.4, top_k=15, top_p=0.97, repetition_penalty=1.3)]
PROMPT = [3, 1, 4, 1, 5]


def model_of(**options):
    heads = {"n_kv_heads": 2} if options.get("attention") == "grouped_query" else {}
    spread = {"unnormalised": 0.1, "summed_heads": 0.4}.get(options.get("attention"), 0.5)
    head = {"name": "language_model", "tied": False}  # a tied one says the same token again and again
    return tiny(vocab_size=V, spread=spread, head=head, **heads, **options)


def tokens_of(model, prompt=PROMPT, **options):
    return [one.tokens for one in continuations(model, SIGNS, prompt, **options)]


def reference(model, options, prompt, count, sampler, **draw):
    """By the naive loop: past its context a relative model reads through a window in each layer."""
    if options["position"] in ABSOLUTE:
        return naive(cropped(model, CONTEXT), prompt, count, sampler, **draw)
    masks = [*options.get("mask", ["causal"]), {"name": "sliding_window", "window": CONTEXT}]
    return naive(whole(model_of(**{**options, "mask": masks})), prompt, count, sampler, **draw)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("position", [*RELATIVE, *ABSOLUTE])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_text_is_that_of_the_naive_loop_within_and_past_the_context(position, attention, sampler):
    options = {"position": position, "attention": attention}
    model = model_of(**options)
    expected = reference(model, options, PROMPT, 22, sampler, seed=7)
    assert len(set(expected)) > 2
    for use_cache in (True, False):
        assert tokens_of(model, max_tokens=22, sampler=sampler, seed=7, use_cache=use_cache) == [expected]


@pytest.mark.parametrize("position", ["none", "learned", "sinusoidal", "rotary", "alibi"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_cache_changes_nothing_wherever_the_prompt_ends(position, sampler):
    model = model_of(position=position, mask=["causal", {"name": "sliding_window", "window": 4}])
    text = [*PROMPT, *tokens_of(model, max_tokens=14, sampler=VARIED)[0]]
    for split in range(1, len(text)):
        options = {"max_tokens": 6, "sampler": sampler, "seed": split, "samples": 2}
        with_cache, without = (
            tokens_of(model, text[:split], **options, use_cache=use) for use in (True, False)
        )
        assert with_cache == without
    if sampler is VARIED:  # what was written may be given back
        for split in range(len(PROMPT), CONTEXT):
            assert tokens_of(model, text[:split], max_tokens=19 - split, sampler=sampler) == [text[split:]]


@pytest.mark.parametrize("position", ["none", "learned", "rotary", "alibi"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_prompts_of_several_lengths_give_what_each_gives_alone(position, use_cache):
    model = model_of(position=position)
    prompts = [[1, 2, 3, 4, 5, 6, 7], [8], [9, 10, 11], list(range(CONTEXT + 3))]
    options = {"max_tokens": 20, "sampler": SAMPLERS[1], "seed": 3, "samples": 2, "use_cache": use_cache}
    together = tokens_of(model, prompts, **options)
    alone = [tokens for prompt in prompts for tokens in tokens_of(model, prompt, **options)]
    assert together == alone


def test_a_sample_is_the_same_however_many_are_drawn():
    model = model_of(position="rotary")
    options = {"max_tokens": 16, "sampler": SAMPLERS[1], "seed": 5}
    five = tokens_of(model, samples=5, **options)
    assert len({tuple(tokens) for tokens in five}) == 5
    for samples in (1, 2, 4):
        assert tokens_of(model, samples=samples, **options) == five[:samples]
    short = tokens_of(model, samples=5, **{**options, "max_tokens": 4})
    assert short == [tokens[:4] for tokens in five]


def test_the_seed_decides_and_no_generator_of_the_process_is_moved():
    model, options = model_of(), {"max_tokens": 12, "samples": 2, "sampler": Sample(temperature=1.5)}
    before = torch.get_rng_state(), random.getstate()
    first = generate(model, SIGNS, "ab", seed=1, **options)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    torch.manual_seed(99)
    assert generate(model, SIGNS, "ab", seed=1, **options) == first
    assert generate(model, SIGNS, "ab", seed=2, **options) != first
    assert len({tuple(generate(model, SIGNS, "ab", seed=s, **options)) for s in (-1, 10**30, 0, 3)}) == 4


def test_which_models_slide_and_which_are_read_anew():
    assert [
        position for position in [*RELATIVE, *ABSOLUTE] if is_relative(model_of(position=position))
    ] == RELATIVE
    triangle = [[int(j <= i) for j in range(CONTEXT)] for i in range(CONTEXT)]
    window = {"name": "sliding_window", "window": 3}
    causal = [
        ["causal"],
        ["causal", window],
        ["causal", "padding"],
        [{"name": "prefix", "length": 0}],
        ["causal", "full"],
    ]
    for mask in causal:
        assert is_causal(model_of(mask=mask)), mask
    for mask in (
        ["full"],
        [window],
        [{"name": "prefix", "length": 3}],
        [{"name": "explicit", "matrix": triangle}],
    ):
        assert not is_causal(model_of(mask=mask)), mask
    assert not is_relative(model_of(position="none", mask=[{"name": "explicit", "matrix": triangle}]))
    mixed = {"0": {"position": "none"}}
    own = model_of(position="rotary", layers=mixed)
    assert is_relative(own)
    own.blocks[0].attention.position.is_relative = False
    assert not is_relative(own)
    assert not is_relative(model_of(position="sinusoidal", layers=mixed))


@pytest.mark.parametrize("mask", [["full"], [{"name": "prefix", "length": 3}]])
def test_a_model_that_is_not_causal_is_read_anew_at_each_step(mask):
    model = model_of(position="rotary", mask=mask)
    expected = naive(cropped(model, CONTEXT), PROMPT, 14, Greedy())
    for use_cache in (True, False):
        assert tokens_of(model, max_tokens=14, sampler="greedy", use_cache=use_cache) == [expected]


def test_layers_with_masks_of_their_own_slide_as_well():
    options = {
        "position": "rotary",
        "layers": {"1": {"mask": ["causal", {"name": "sliding_window", "window": 3}]}},
    }
    model = model_of(**options)
    cached, anew = (tokens_of(model, max_tokens=30, sampler="greedy", use_cache=use) for use in (True, False))
    assert cached == anew
    assert all("mask" not in vars(block.attention) or block is model.blocks[0] for block in model.blocks)


def test_the_explicit_matrix_ends_the_text_with_a_named_error():
    triangle = [[int(j <= i) for j in range(8)] for i in range(8)]
    model = model_of(mask=[{"name": "explicit", "matrix": triangle}])
    assert len(tokens_of(model, max_tokens=4, sampler="greedy")[0]) == 4
    with pytest.raises(PositionRangeError, match="8 x 8"):
        tokens_of(model, max_tokens=9, sampler="greedy")


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_model_without_layers_and_one_that_reads_a_single_token(use_cache):
    bigram = model_of(n_layers=0, position="none")
    expected = naive(cropped(bigram, 1), PROMPT, 20, SAMPLERS[1], seed=2)
    assert tokens_of(bigram, max_tokens=20, sampler=SAMPLERS[1], seed=2, use_cache=use_cache) == [expected]
    narrow = model_of(context_length=1)
    expected = naive(cropped(narrow, 1), PROMPT[-1:], 9, Greedy())
    assert tokens_of(narrow, max_tokens=9, sampler="greedy", use_cache=use_cache) == [expected]


@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_of_a_long_prompt_the_end_is_read_and_a_warning_says_so(position, caplog):
    model, prompt = model_of(position=position), [i % V for i in range(30)]
    with caplog.at_level(logging.WARNING, "gptkit"):
        long = tokens_of(model, prompt, max_tokens=5, sampler="greedy")
    assert "30 tokens" in caplog.text
    assert "last 12" in caplog.text
    caplog.clear()
    assert long == tokens_of(model, prompt[-CONTEXT:], max_tokens=5, sampler="greedy")
    assert not caplog.text


def test_the_penalty_counts_all_of_the_text_also_what_is_read_no_more():
    model = model_of(position="rotary")
    harsh = Sample(temperature=0, repetition_penalty=1e6)
    with torch.no_grad():
        model.head.bias = torch.nn.Parameter(torch.full((V,), 50.0).double())  # all scores are above 0
    tokens = tokens_of(model, [0], max_tokens=V - 1, sampler=harsh)[0]
    assert sorted([0, *tokens]) == list(range(V))  # each token once, though only the last 12 are read


def test_a_vocabulary_that_is_padded_never_shows():
    model = tiny(vocab_size=V + 5, spread=0.5)
    with torch.no_grad():
        model.head.bias = torch.nn.Parameter(torch.zeros(V + 5).double())
        model.head.bias[V:] = 1e6
    for sampler in (Greedy(), Sample(), Sample(top_k=3)):
        assert max(map(max, tokens_of(model, max_tokens=10, samples=3, sampler=sampler))) < V


def test_the_end_of_text_ends_a_sample_and_the_others_go_on():
    model, options = model_of(), {"max_tokens": 12, "samples": 12, "sampler": Sample(temperature=2.0)}
    free = tokens_of(model, **options)
    end = free[0][4]
    ended = continuations(model, Signs(end_of_text=end), PROMPT, **options)
    for tokens, one in zip(free, ended, strict=True):
        assert one.tokens == (tokens[: tokens.index(end)] if end in tokens else tokens)
        assert one.ended == ("end_of_text" if end in tokens else "max_tokens")
        assert one.text == SIGNS.decode(one.tokens)
    assert {one.ended for one in ended} == {"end_of_text", "max_tokens"}


def test_no_token_may_be_asked_for():
    assert generate(model_of(), SIGNS, "ab", max_tokens=0, samples=2) == ["", ""]
    assert list(stream(model_of(), SIGNS, "ab", max_tokens=0)) == []


def test_the_room_for_tokens_grows_as_they_come(monkeypatch):
    from gptkit.generate import reader

    model, options = model_of(position="learned"), {"max_tokens": 40, "samples": 2, "seed": 1}
    prompts = [[1, 2, 3], [4]]
    expected = tokens_of(model, prompts, **options)
    monkeypatch.setattr(reader, "_ROOM", 1)
    assert tokens_of(model, prompts, **options) == expected
    endless = stream(model, SIGNS, "ab", max_tokens=10**15, sampler=Sample(temperature=2.0))
    assert "".join(next(endless) for _ in range(30))


def test_an_empty_prompt_starts_after_the_end_of_a_text_or_at_a_new_line():
    model, options = model_of(), {"max_tokens": 5, "sampler": "greedy"}
    newline = SIGNS.encode("\n")
    assert (
        tokens_of(model, "", **options)
        == tokens_of(model, [], **options)
        == tokens_of(model, newline, **options)
    )
    ending = Signs(end_of_text=9)
    expected = continuations(model, ending, [9], **options)
    assert continuations(model, ending, "", **options) == expected
    with pytest.raises(UserError, match="Give a prompt"):
        generate(model, _Mute(), "")


class _Mute(Signs):
    def encode(self, text, special=False):
        return []


def test_dropout_is_off_and_the_mode_is_left_as_it_was():
    model = tiny(vocab_size=V, block={"name": "pre", "dropout": 0.9})
    expected = tokens_of(model, max_tokens=8, sampler="greedy")
    model.train()
    assert tokens_of(model, max_tokens=8, sampler="greedy") == expected
    assert model.training
    pieces = stream(model, SIGNS, "ab", max_tokens=50, sampler="greedy")
    next(pieces)
    pieces.close()
    assert model.training
    assert all(module.training for module in model.modules())


def test_scores_that_are_no_numbers_are_an_error():
    model = model_of()
    with torch.no_grad():
        model.embedding.weight.fill_(float("nan"))
    for sampler in ("greedy", "sample", {"name": "sample", "top_k": 3}):
        with pytest.raises(GptkitError, match="not numbers"):
            tokens_of(model, sampler=sampler)


def test_the_sampler_may_be_a_part_a_name_a_node_or_the_config_s():
    model = model_of()
    options = {"max_tokens": 12, "seed": 4}
    greedy = tokens_of(model, **options, sampler=Greedy())
    hot = tokens_of(model, **options, sampler=Sample(temperature=3.0))
    assert hot != greedy
    assert tokens_of(model, **options, sampler="greedy") == greedy
    assert tokens_of(model, **options, sampler={"name": "sample", "temperature": 3.0}) == hot
    model.config = {**model.config, "sampler": {"name": "sample", "temperature": 3.0}}
    assert tokens_of(model, **options) == hot
    model.config.pop("sampler")
    assert tokens_of(model, **options) == tokens_of(model, **options, sampler="sample")
    model.tokenizer = SIGNS
    assert model.generate("ab", max_tokens=5, sampler="greedy") == generate(
        model, SIGNS, "ab", max_tokens=5, sampler="greedy"
    )


WRONG = [
    ({"max_tokens": -1}, "max_tokens: expected a whole number of 0 or more, got -1"),
    ({"max_tokens": 2.5}, "max_tokens"),
    ({"samples": 0}, "samples: expected a whole number of 1 or more"),
    ({"seed": "x"}, "seed: expected a whole number, got 'x'"),
    ({"stop": ""}, "none of them empty"),
    ({"stop": ["a", 3]}, "stop"),
    ({"stop": 7}, "stop"),
    ({"sampler": "gredy"}, "Did you mean 'greedy'"),
    ({"sampler": {"name": "sample", "temprature": 1}}, "Did you mean 'temperature'"),
    ({"sampler": {"name": "sample", "top_k": "all"}}, "top_k"),
    ({"sampler": {"name": "sample", "top_p": 1.5}}, "from 0 to 1"),
    ({"prompt": [1, 400]}, "token 400 is not one of the model's, which are 0 to 19"),
    ({"prompt": [-1]}, "token -1"),
    ({"prompt": 3.5}, "expected a text or token numbers"),
    ({"prompt": ["ab", 3]}, "expected a text or token numbers"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_argument_is_told_before_anything_is_read(options, message):
    with pytest.raises(UserError, match=message):
        generate(model_of(), SIGNS, **{"prompt": "ab", **options})
    if "samples" not in options:
        with pytest.raises(UserError, match=message):
            stream(model_of(), SIGNS, **{"prompt": "ab", **options})


def test_prompts_may_be_arrays_and_stream_takes_one():
    model, options = model_of(), {"max_tokens": 3, "sampler": "greedy"}
    expected = tokens_of(model, [[1, 2], [3, 4]], **options)
    assert tokens_of(model, torch.tensor([[1, 2], [3, 4]]), **options) == expected
    assert tokens_of(model, torch.tensor([1, 2]).numpy(), **options) == expected[:1]
    assert tokens_of(model, ("ab", "c"), **options) == tokens_of(model, "ab", **options) + tokens_of(
        model, "c", **options
    )
    with pytest.raises(UserError, match="one prompt, got 2"):
        stream(model, SIGNS, ["ab", "c"])


def test_a_single_stream_decodes_from_packed_weights_and_leaves_no_trace(monkeypatch):
    from gptkit.model import decoding

    monkeypatch.setattr(decoding, "_SMALLEST", 1)
    model = model_of(position="learned").float()
    expected = tokens_of(model, max_tokens=20, sampler="greedy", use_cache=False)
    counted = []
    call = decoding._Packed.__call__
    monkeypatch.setattr(
        decoding._Packed, "__call__", lambda self, x: counted.append(x.shape) or call(self, x)
    )
    assert tokens_of(model, max_tokens=20, sampler="greedy") == expected
    assert counted
    assert not any("forward" in vars(module) for module in model.modules())


def test_the_cache_reads_each_token_once(monkeypatch):
    model, read = model_of(position="rotary"), []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda tokens, **k: read.append(tokens.shape[1]) or forward(tokens, **k)
    )
    tokens_of(model, max_tokens=20, sampler="greedy")
    assert read == [5] + [1] * 19
