"""The whole model against one made of loops, and what one may do with it."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import reference
from gptkit.errors import ConfigError, UserError
from gptkit.model.assemble import build
from tiny import SIZES, VOCAB, close, some_tokens, tiny

PARALLEL = {"name": "parallel", "shared_norm": False}


@st.composite
def compositions(draw) -> tuple[dict, dict]:
    """A model section, and the words in which the reference is told the same."""
    kv_heads, share = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    heads, d_head = kv_heads * share, draw(st.integers(1, 5))
    block = draw(st.sampled_from(["pre", "post", "parallel", PARALLEL]))
    activation = draw(st.sampled_from([*reference.ACTIVATIONS]))
    position = draw(st.sampled_from(["none", "sinusoidal", "learned"]))
    window = draw(st.integers(1, 4))
    mask = draw(st.sampled_from(["causal", "full", "window"]))
    bias = draw(st.booleans())
    model = {
        "n_layers": draw(st.integers(0, 3)), "n_heads": heads, "n_kv_heads": kv_heads, "d_head": d_head,
        "d_model": draw(st.integers(2, 12)), "d_ff": draw(st.integers(1, 9)), "position": position,
        "attention": {
            "name": "grouped_query", "bias": bias, "kernel": draw(st.sampled_from(["sdpa", "eager"])),
        },
        "mask": {"window": ["causal", {"name": "sliding_window", "window": window}]}.get(mask, mask),
        "feed_forward": draw(st.sampled_from(["none", {"name": "mlp", "activation": activation, "bias": bias}])),
        "norm": draw(st.sampled_from(["layer", "none", {"name": "layer", "bias": False}])),
        "block": block,
        "head": {"name": "language_model", "tied": draw(st.booleans()), "bias": draw(st.booleans())},
    }  # fmt: skip
    allows = {
        "causal": lambda b, i, j: j <= i,
        "full": lambda b, i, j: True,
        "window": lambda b, i, j: j <= i and i - j < window,
    }[mask]
    told = {
        "layers": model["n_layers"], "heads": heads, "kv_heads": kv_heads, "activation": activation,
        "block": block if isinstance(block, str) else "parallel", "shared_norm": block != PARALLEL,
        "position": position, "allows": allows,
    }  # fmt: skip
    return model, told


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(compositions(), st.integers(1, 3), st.integers(1, 6), st.integers(1, 30))
def test_any_composition_is_what_loops_make_of_its_parameters(composition, rows, length, vocab_size):
    model, told = composition
    gpt = tiny(vocab_size=vocab_size, **model)
    tokens = some_tokens(rows, length, vocab_size=vocab_size)
    expected = reference.gpt(reference.weights_of(gpt), tokens.numpy(), **told)
    with torch.no_grad():
        close(gpt(tokens), expected, 1e-11 if model["norm"] == "none" else 1e-12)
        close(gpt(tokens, last_only=True), gpt(tokens)[:, -1:])


# Models of no layers, and models whose layers differ ---------------------------------------------------


@pytest.mark.parametrize("position", ["none", "learned"])
def test_a_model_without_layers_is_a_table_of_pairs(position):
    """The bigram model: what follows a token depends on that token, and on its place if one is told."""
    model = tiny(n_layers=0, position=position)
    table, tokens = model.embedding.weight, some_tokens()
    x = table[tokens] if position == "none" else table[tokens] + model.position.weight[:9]
    close(model(tokens), x @ table.T)
    caches = model.new_caches(2, 12)
    close(torch.cat([model(t, caches=caches) for t in tokens.split(4, 1)], 1), model(tokens))
    model.loss(tokens, tokens).backward()
    assert model.embedding.weight.grad.isfinite().all()


def _kinds(model, name):
    return [type(getattr(block.attention, name)).__name__ for block in model.blocks]


def test_any_part_may_differ_in_a_slice_of_layers():
    model = tiny(
        n_layers=6,
        position="alibi",
        mask={"causal": {}, "sliding_window": {"window": 3}},
        layers={
            "2::3": {"position": "none", "mask": "causal"},
            "-1": {"attention": "summed_heads", "block": "parallel"},
            "0": {"feed_forward": "none", "norm": {"name": "layer", "eps": 0.5}},
            "1:3": {"feed_forward": {"name": "mlp", "activation": "relu"}},
        },
    )
    assert _kinds(model, "position") == ["ALiBi", "ALiBi", "NoPosition"] * 2
    assert _kinds(model, "mask") == ["AllOf", "AllOf", "Causal"] * 2
    assert [type(b.attention).__name__ for b in model.blocks] == ["MultiHead"] * 5 + ["SummedHeads"]
    assert [type(b).__name__ for b in model.blocks] == ["PreNorm"] * 5 + ["Parallel"]
    assert [type(b.feed_forward).__name__ for b in model.blocks] == ["NoFeedForward"] + ["MLP"] * 5
    assert [b.attention_norm.eps for b in model.blocks] == [0.5] + [1e-5] * 5
    relu = [b.feed_forward.activation is torch.nn.functional.relu for b in model.blocks[1:]]
    assert relu == [True, True, False, False, False]
    owned = {name for name, _ in model.named_modules() if name.endswith((".position", ".mask"))}
    assert owned == {f"blocks.{i}.attention.{part}" for i in (2, 5) for part in ("position", "mask")}
    assert model.blocks[0].attention.position is model.blocks[1].attention.position is model.position
    assert model(some_tokens()).isfinite().all()


def test_a_layer_that_differs_reads_by_its_own_mask():
    """A window of one in all layers but the last: tokens meet only there."""
    sizes = {"position": "none", "n_layers": 3, "mask": {"causal": {}, "sliding_window": {"window": 1}}}
    alone, met = tiny(**sizes), tiny(**sizes, layers={"-1": {"mask": "causal"}})
    tokens, other = some_tokens(), some_tokens()
    other[:, 0] = (other[:, 0] + 1) % VOCAB
    assert torch.equal(alone(tokens)[:, 1:], alone(other)[:, 1:])
    assert not torch.isclose(met(tokens)[:, 1:], met(other)[:, 1:]).all(-1).any()


def test_layers_that_say_the_same_are_the_same_model():
    plain = tiny(n_layers=3)
    told = tiny(n_layers=3, layers={"::": {"mask": "causal", "position": "learned", "block": "pre"}})
    assert plain.state_dict().keys() == told.state_dict().keys()
    assert torch.equal(plain(some_tokens()), told(some_tokens()))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"7": {"position": "none"}}, r"layers\.7: the model has no such layer\. Layers are 0 to 1"),
        ({"-3": {"position": "none"}}, r"layers\.-3: the model has no such layer"),
        ({"-": {"position": "none"}}, r"layers\.-: expected a slice"),
        ({"::0": {"position": "none"}}, r"layers\.::0: expected a slice"),
        ({"first": {"position": "none"}}, r"layers\.first: expected a slice"),
        ({"0": {"position": "sinusoidal"}}, r"'sinusoidal' is added to the embeddings, once for all layers"),
        ({"0": {"head": "language_model"}}, r"layers\.0\.head: no part of a layer"),
        ({"0": {"mask": "casual"}}, r"layers\.0\.mask\.casual: there is no model\.mask.*'causal'"),
    ],
)
def test_layers_that_cannot_be(layers, message):
    with pytest.raises(ConfigError, match=message):
        tiny(layers=layers)


# What one may do with a model ----------------------------------------------------------------------------

WINDOW = {"causal": {}, "sliding_window": {"window": 3}}
MODELS = {
    "gpt2": {},
    "post, untied": {"block": "post", "head": {"name": "language_model", "tied": False, "bias": True}},
    "summed": {"attention": "summed_heads", "position": "sinusoidal"},
    "own parts": {"position": "alibi", "layers": {"0": {"position": "rotary", "mask": WINDOW}}},
}
EACH = pytest.mark.parametrize("name", MODELS)


@EACH
def test_inputs_are_left_as_they_were(name):
    model = tiny(**MODELS[name], embedding="token")
    tokens, targets = some_tokens(), some_tokens(seed=1)
    targets[0, 3] = -100
    padding, documents = torch.zeros(2, 9, dtype=torch.bool), torch.zeros(2, 9, dtype=torch.long)
    padding[0, :2] = True
    given_ = [tokens, targets, padding, documents]
    before, weights = copy.deepcopy(given_), copy.deepcopy(model.state_dict())
    model(tokens, padding=padding, documents=documents)
    model.loss(tokens, targets, padding=padding).backward()
    model(tokens, caches=model.new_caches(2, 9))
    assert all(torch.equal(a, b) for a, b in zip(given_, before, strict=True))
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


@EACH
def test_weights_go_through_safetensors(name, tmp_path):
    model = tiny(**MODELS[name])
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = tiny(**MODELS[name], seed=2)
    assert not torch.equal(other(some_tokens()), model(some_tokens()))
    assert (
        str(other.load_state_dict(load_file(tmp_path / "model.safetensors")))
        == "<All keys matched successfully>"
    )
    assert torch.equal(other(some_tokens()), model(some_tokens()))


@EACH
def test_a_copy_is_whole_and_apart(name):
    model = tiny(**MODELS[name])
    twin, expected = copy.deepcopy(model), model(some_tokens())
    ours = {id(module) for module in model.modules()}
    shared = (twin.embedding.position, twin.blocks[-1].attention.position, twin.blocks[-1].attention.mask)
    assert not {id(module) for module in (*twin.modules(), *shared)} & ours
    assert twin.embedding.position is twin.position
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    assert torch.equal(model(some_tokens()), expected)
    assert not torch.equal(twin(some_tokens()), expected)


@EACH
def test_a_model_on_no_device_has_all_its_shapes(name):
    config = {"model": {**SIZES, **MODELS[name]}}
    ghost = build(config, vocab_size=VOCAB, device="meta")
    model = build(config, vocab_size=VOCAB)
    assert all(parameter.is_meta for parameter in ghost.parameters())
    assert {k: v.shape for k, v in ghost.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    assert ghost.n_parameters() == model.n_parameters()
    ghost = ghost.to_empty(device="cpu")
    ghost.load_state_dict(model.state_dict())
    assert torch.equal(ghost(some_tokens()), model(some_tokens()))


def test_every_parameter_learns():
    for model in (tiny(**options) for options in MODELS.values()):
        model.loss(some_tokens(length=12), some_tokens(length=12, seed=1)).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_the_gradient_of_a_model_is_its_slope():
    model = tiny(norm="layer", n_layers=1)
    tokens, targets = some_tokens(), some_tokens(seed=1)
    model.loss(tokens, targets).backward()
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        way = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            ends = []
            for shift in (1e-6, -2e-6):
                parameter.add_(shift * way)
                ends.append(model.loss(tokens, targets).item())
            parameter.add_(1e-6 * way)
        slope = (ends[0] - ends[1]) / 2e-6
        assert (parameter.grad * way).sum().item() == pytest.approx(slope, rel=1e-6, abs=1e-8), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@EACH
def test_short_types_are_near_the_long_one(name, dtype):
    model = tiny(**MODELS[name], spread=0.1)
    expected = model(some_tokens())
    ours = model.to(dtype)(some_tokens())
    assert ours.dtype == dtype
    close(ours.double(), expected, 1e-5 if dtype == torch.float32 else 0.1)


@EACH
def test_autocast_is_near_and_keeps_the_loss_in_float32(name):
    model = tiny(**MODELS[name], spread=0.1).float()
    tokens, targets = some_tokens(), some_tokens(seed=1)
    expected = model.loss(tokens, targets)
    with torch.autocast("cpu", torch.bfloat16):
        logits, loss = model(tokens), model.loss(tokens, targets)
        caches = model.new_caches(2, 12)
        model(tokens[:, :5], caches=caches)
        step = model(tokens[:, 5:6], caches=caches)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    close(loss, expected, 0.02)
    close(step.float(), logits[:, 5:6].float(), 0.05)
    loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


# Refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"n_heads": 3}, r"model\.n_heads: d_model=16 cannot be split into 3 heads.*n_heads=2"),
        ({"n_kv_heads": 3, "attention": "grouped_query"}, r"n_kv_heads: 4 query heads.*one of 1, 2, 4"),
        ({"vocab_size": 20}, r"model\.vocab_size: 20 rows cannot hold the tokenizer's 23 tokens.*23 or more"),
        ({"position": {"name": "sinusoidal", "bass": 3}}, r"position\.bass.*Did you mean 'base'\?"),
        ({"position": "learnd"}, r"model\.position: there is no model\.position named 'learnd'.*'learned'"),
        ({"n_layers": "two"}, r"model\.n_layers: expected a whole number, got the text 'two'"),
        ({"n_layer": 2}, r"model\.n_layer: no such key\. Did you mean 'n_layers'\?"),
        ({"d_model": 0}, r"model\.d_model: expected at least 1"),
    ],
)
def test_models_that_cannot_be(model, message):
    with pytest.raises(ConfigError, match=message):
        build({"model": {**SIZES, **model}}, vocab_size=VOCAB)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as told:
        tiny(position="learnd", mask="casual", n_layers="two", colour="red")
    assert len(told.value.problems) == 4


def test_a_vocabulary_must_be_known_and_may_be_padded():
    with pytest.raises(ConfigError, match=r"vocabulary is not known.*tokenizer"):
        build({"model": SIZES})
    assert build({"model": {**SIZES, "vocab_size": 64}}, vocab_size=23).embedding.weight.shape == (64, 16)
    assert build({"model": {**SIZES, "vocab_size": 64}}).shape.vocab_size == 64


def test_a_model_without_a_tokenizer_says_so():
    with pytest.raises(UserError, match=r"no tokenizer.*gptkit\.load"):
        tiny().generate("To be")


# Compilation: minutes on a small machine --------------------------------------------------------------------


@pytest.mark.slow
@EACH
def test_compiled_models_give_the_same_numbers(name):
    model, tokens, targets = tiny(**MODELS[name]), some_tokens(), some_tokens(seed=1)
    torch.compiler.reset()
    close(torch.compile(model, fullgraph=True)(tokens), model(tokens))
    compiled = torch.compile(model.loss, fullgraph=True)
    loss = model.loss(tokens, targets)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    ours = compiled(tokens, targets)
    close(ours, loss)
    for one, other in zip(torch.autograd.grad(ours, list(model.parameters())), expected, strict=True):
        close(one, other)


def test_one_graph_holds_the_whole_model():
    """No graph break in forward and loss: seen without generating code."""
    for options in ({}, {"mask": ["causal", "padding"], "attention": "summed_heads", "position": "alibi"}):
        model, tokens = tiny(**options), some_tokens()
        torch.compiler.reset()
        padding = torch.zeros_like(tokens, dtype=torch.bool)
        padding[0, 7:] = True
        told = {"padding": padding} if options else {}
        compiled = torch.compile(model.loss, fullgraph=True, backend="eager")
        close(compiled(tokens, tokens, **told), model.loss(tokens, tokens, **told))
