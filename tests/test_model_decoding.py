"""Packed products for single tokens give the products themselves, and leave no trace."""

import pytest
import torch
from torch import nn

from gptkit.model import decoding
from gptkit.model.decoding import packed_for_decoding
from tiny import close, normal, some_tokens, tiny


@pytest.fixture(autouse=True)
def _pack_small_maps(monkeypatch):
    monkeypatch.setattr(decoding, "_SMALLEST", 1)


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_a_single_token_is_multiplied_as_before(bias, cores, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    for width in (8, 7):  # not every width is shared evenly by the cores
        module = nn.Linear(width, 5, bias=bias)
        for size in ((1, 1, width), (width,), (3, width)):
            x = normal(*size).float()
            expected = module(x)
            with packed_for_decoding(module):
                assert isinstance(vars(module)["forward"], decoding._Packed)
                close(module(x), expected, 1e-6)
            assert "forward" not in vars(module)


@pytest.mark.parametrize("attention", ["multi_head", "summed_heads"])
@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_a_model_decodes_the_same(attention, tied):
    head = {"name": "language_model", "tied": tied, "bias": True}
    model, tokens = tiny(attention=attention, head=head).float(), some_tokens(1, 9)
    full = model(tokens)
    with packed_for_decoding(model):
        caches = model.new_caches(1, 9)
        pieces = [model(piece, caches=caches) for piece in tokens.split([4, 1, 1, 1, 1, 1], 1)]
    close(torch.cat(pieces, 1), full, 1e-5)
    assert not any("forward" in vars(module) for module in model.modules())


def test_learning_goes_past_it():
    module = nn.Linear(4, 3)
    with packed_for_decoding(module):
        module(torch.ones(1, 4)).sum().backward()
    assert module.weight.grad.eq(1).all()


class _Doubled(nn.Linear):
    """A map whose product is not that of its weight."""

    def forward(self, x):
        return 2 * super().forward(x)


@torch.no_grad()
def test_what_is_not_a_plain_float32_map_is_left_alone():
    for module in (_Doubled(4, 3), nn.Linear(4, 3).double(), nn.Linear(4, 3).bfloat16()):
        x = torch.ones(1, 4, dtype=module.weight.dtype)
        expected = module(x)
        with packed_for_decoding(module):
            assert "forward" not in vars(module)
            assert torch.equal(module(x), expected)


@torch.no_grad()
def test_two_streams_of_one_model_may_end_in_any_order():
    for first_out in (0, 1):
        module, x = nn.Linear(4, 3), torch.ones(1, 4)
        expected, contexts = module(x), [packed_for_decoding(module), packed_for_decoding(module)]
        for context in contexts:
            context.__enter__()
        for context in (contexts[first_out], contexts[1 - first_out]):
            close(module(x), expected, 1e-6)
            context.__exit__(None, None, None)
        assert "forward" not in vars(module)


@torch.no_grad()
def test_an_error_leaves_the_model_as_it_was():
    model = tiny().float()
    with pytest.raises(KeyError), packed_for_decoding(model):
        raise KeyError
    assert not any("forward" in vars(module) for module in model.modules())
