"""The first weights: their distributions, and that each depends on its name and the seed alone."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch

from gptkit.model.assemble import build, part
from gptkit.model.gpt import GPT
from gptkit.model.init import initialise
from tiny import SIZES, VOCAB

BIG = {"context_length": 64, "d_model": 128, "n_layers": 3, "n_heads": 4}


def _weights(seed: int = 7, **model) -> dict[str, torch.Tensor]:
    return build({"model": {**SIZES, **model}, "seed": seed}, vocab_size=VOCAB).state_dict()


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("std", [0.02, 0.1])
def test_distribution(std, scaled):
    """Normal(0, std); what writes into the stream is divided by sqrt(2 layers); gains 1, biases 0."""
    init = {"name": "gpt2", "std": std, "scale_residual": scaled}
    head = {"name": "language_model", "tied": False, "bias": True}
    model = build({"model": {**BIG, "init": init, "head": head}}, vocab_size=200)
    residual = std / 6**0.5 if scaled else std
    for name, parameter in model.state_dict().items():
        if "norm" in name or name.endswith("bias"):
            assert parameter.eq(1.0 if name.endswith("norm.weight") else 0.0).all(), name
            continue
        expected = residual if name.endswith(("out.weight", "down.weight")) else std
        count = parameter.numel()
        assert abs(parameter.mean()) < 5 * expected / count**0.5, name
        assert parameter.std() == pytest.approx(expected, rel=5 / (2 * count) ** 0.5), name
        kurtosis = (parameter / expected).pow(4).mean().item()
        assert kurtosis == pytest.approx(3, abs=5 * (96 / count) ** 0.5), name


def test_value_maps_of_summed_heads_write_into_the_stream():
    weights = build({"model": {**BIG, "attention": "summed_heads"}}, vocab_size=9).state_dict()
    assert weights["blocks.1.attention.value.weight"].std() == pytest.approx(0.02 / 6**0.5, rel=0.03)
    assert weights["blocks.1.attention.qk.weight"].std() == pytest.approx(0.02, rel=0.03)


def test_a_model_without_layers_has_a_deviation():
    assert (
        part("init", "gpt2", build({"model": {**SIZES, "n_layers": 0}}, vocab_size=3).shape).residual_std > 0
    )


def test_the_same_seed_is_bitwise_the_same_model_and_another_is_another():
    first, again, other = _weights(), _weights(), _weights(seed=8)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    for name, value in first.items():
        drawn = value.dim() == 2
        assert torch.equal(value, other[name]) != drawn, name


def test_no_two_parameters_are_drawn_alike():
    weights = [value.flatten()[:16] for value in _weights().values() if value.dim() == 2]
    for index, one in enumerate(weights):
        assert not any(torch.equal(one, other) for other in weights[index + 1 :])


@pytest.mark.parametrize(
    ("change", "may_differ"),
    [
        ({"position": "none"}, "position."),
        ({"position": "sinusoidal"}, "position."),
        ({"position": "rotary"}, "position."),
        ({"position": "alibi"}, "position."),
        ({"mask": {"causal": {}, "sliding_window": {"window": 3}}}, "none of them"),
        ({"block": "post"}, "norm."),
        ({"norm": "none"}, ("norm.", "blocks.0.attention_norm", "blocks.0.feed_forward_norm",
                            "blocks.1.attention_norm", "blocks.1.feed_forward_norm")),
        ({"feed_forward": "none"}, ("blocks.0.feed_forward", "blocks.1.feed_forward")),
        ({"attention": "summed_heads"}, ("blocks.0.attention.", "blocks.1.attention.")),
        ({"layers": {"0": {"feed_forward": "none"}}}, "blocks.0.feed_forward"),
        ({"head": {"name": "language_model", "tied": False}}, "head."),
    ],
    ids=str,
)  # fmt: skip
def test_models_that_differ_in_one_part_start_equal_elsewhere(change, may_differ):
    plain, changed = _weights(), _weights(**change)
    for name in plain.keys() | changed.keys():
        if not name.startswith(may_differ):
            assert torch.equal(plain[name], changed[name]), name
    assert any(not name.startswith(may_differ) for name in plain)


def test_more_layers_leave_the_first_ones_alone_but_for_their_scale():
    two, four = _weights(n_layers=2), _weights(n_layers=4)
    assert torch.equal(two["blocks.1.attention.qkv.weight"], four["blocks.1.attention.qkv.weight"])
    name = "blocks.1.feed_forward.down.weight"
    torch.testing.assert_close(two[name] * 0.5**0.5, four[name], rtol=1e-6, atol=0)


def test_construction_order_and_chance_do_not_matter():
    expected = _weights()
    torch.manual_seed(99)
    torch.randn(1234)
    model = build({"model": SIZES, "seed": 7}, vocab_size=VOCAB, initialise_weights=False)
    parts = [
        model.embedding,
        model.position,
        model.mask,
        list(model.blocks),
        model.norm,
        model.head,
    ]
    again = GPT(model.shape, *parts)
    before = torch.get_rng_state()
    for _ in range(2):  # drawing twice gives the same: nothing is carried over
        initialise(again, part("init", "gpt2", model.shape), 7)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, expected[name]) for name, value in again.state_dict().items())


def test_a_shorter_type_holds_the_same_draws():
    model = build({"model": SIZES}, vocab_size=VOCAB).to(torch.bfloat16)
    initialise(model, part("init", "gpt2", model.shape), 7)
    assert all(torch.equal(v, _weights()[k].to(torch.bfloat16)) for k, v in model.state_dict().items())


def test_a_module_may_draw_its_own():
    model = build({"model": SIZES}, vocab_size=VOCAB)
    asked = []

    def own(name, tensor, generator):
        asked.append(name)
        if name == "weight":
            tensor.uniform_(5, 6, generator=generator)
        return name == "weight"

    model.blocks[1].feed_forward.down.init_parameter = own
    initialise(model, part("init", "gpt2", model.shape), 7)
    assert asked == ["weight", "bias"]
    assert model.blocks[1].feed_forward.down.weight.min() >= 5
    assert model.blocks[1].feed_forward.down.bias.eq(0).all()
    first = model.blocks[1].feed_forward.down.weight.clone()
    initialise(model, part("init", "gpt2", model.shape), 7)
    assert torch.equal(model.blocks[1].feed_forward.down.weight, first)


def test_two_processes_agree():
    """With other hash seeds and numbers of threads."""
    script = (
        "import hashlib, torch; from gptkit.model.assemble import build;"
        "model = build({'model': {'context_length': 12, 'd_model': 16, 'n_layers': 2, 'n_heads': 4}, 'seed': 7},"
        " vocab_size=23);"
        "print(hashlib.sha256(b''.join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())"
    )
    ours = hashlib.sha256(
        b"".join(p.numpy().tobytes() for p in _weights().values())
    ).hexdigest()  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "4321", "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert told.stdout.strip() == ours
