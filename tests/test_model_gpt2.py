"""GPT-2 of `transformers` into ours and back."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from gptkit.errors import UserError
from gptkit.interop.gpt2 import from_gpt2, read_folder, section_of
from gptkit.interop.gpt2_export import to_gpt2
from gptkit.model.assemble import build
from tiny import close, scatter, some_tokens, tiny

transformers = pytest.importorskip("transformers")

SIZES = {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 20, "vocab_size": 31}
DIALS = {
    "as it comes": {},
    "wider network": {"n_inner": 40, "layer_norm_epsilon": 0.01},
    "exact gelu": {"activation_function": "gelu"},
    "relu": {"activation_function": "relu"},
    "silu": {"activation_function": "silu"},
    "untied": {"tie_word_embeddings": False},
    "unscaled": {"scale_attn_weights": False},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "one layer": {"n_layer": 1},
}
EACH = pytest.mark.parametrize("dials", DIALS.values(), ids=DIALS)


def _theirs(dtype=torch.float64, **dials):
    """A GPT-2 of theirs in which every parameter matters."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(**{**SIZES, **dials}, attn_implementation="eager")
    return scatter(transformers.GPT2LMHeadModel(config), 0.15).to(dtype)


@EACH
def test_theirs_in_ours_gives_the_same_logits(dials):
    theirs, tokens = _theirs(**dials), some_tokens(3, 20, vocab_size=31)
    ours = from_gpt2(theirs.config.to_dict(), theirs.state_dict()).eval()
    close(ours(tokens), theirs(tokens).logits)
    assert ours.n_parameters() == theirs.num_parameters()
    in_32 = from_gpt2(theirs.config.to_dict(), theirs.float().state_dict()).eval()
    assert in_32.embedding.weight.dtype == torch.float32
    close(in_32(tokens), theirs(tokens).logits, 1e-5)


def test_gpt2_of_its_own_first_weights_to_1e_5_in_float32():
    theirs, tokens = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES)).eval(), some_tokens(3, 20)
    close(from_gpt2(theirs.config.to_dict(), theirs.state_dict()).eval()(tokens), theirs(tokens).logits, 1e-5)


@EACH
def test_ours_in_theirs_gives_the_same_logits_and_every_name(dials):
    start = _theirs(**dials)
    ours = from_gpt2(start.config.to_dict(), start.state_dict())
    scatter(ours, 0.2, seed=7)
    config, state = to_gpt2(ours)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config)).double().eval()
    told = theirs.load_state_dict(state)
    assert (told.missing_keys, told.unexpected_keys) == ([], [])
    tokens = some_tokens(3, 20, vocab_size=31)
    close(theirs(tokens).logits, ours(tokens))
    again = from_gpt2(config, state)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in ours.state_dict().items())


def test_the_loss_and_its_gradients_agree():
    theirs, tokens = _theirs(), some_tokens(3, 20, vocab_size=31)
    ours = from_gpt2(theirs.config.to_dict(), theirs.state_dict()).eval()
    loss = ours.loss(tokens[:, :-1], tokens[:, 1:])
    logits = theirs(tokens[:, :-1]).logits  # their own loss is rounded to float32
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    close(loss, expected)
    loss.backward()
    expected.backward()
    close(ours.embedding.weight.grad, theirs.transformer.wte.weight.grad)
    close(ours.blocks[1].attention.qkv.weight.grad, theirs.transformer.h[1].attn.c_attn.weight.grad.T)


def test_decoding_with_both_caches_agrees():
    theirs, tokens = _theirs(), some_tokens(2, 12, vocab_size=31)
    ours = from_gpt2(theirs.config.to_dict(), theirs.state_dict()).eval()
    caches, past = ours.new_caches(2, 12), None
    with torch.no_grad():
        for piece in tokens.split([5, 1, 4, 2], dim=1):
            told = theirs(piece, past_key_values=past, use_cache=True)
            past = told.past_key_values
            close(ours(piece, caches=caches), told.logits)


def test_a_padded_batch_agrees():
    theirs, tokens = _theirs(), some_tokens(2, 12, vocab_size=31)
    ours = from_gpt2(theirs.config.to_dict(), theirs.state_dict()).eval()
    padding = torch.zeros(2, 12, dtype=torch.bool)
    padding[0, :5] = True
    real = (~padding).long()
    at = (real.cumsum(-1) - 1).clamp(min=0)
    told = theirs(tokens, attention_mask=real, position_ids=at).logits
    close(ours(tokens, padding=padding)[~padding], told[~padding])


def test_files_of_theirs_are_read_as_they_stand(tmp_path):
    """With a tied head left out, without the `transformer.` prefix, with saved masks, and wrapped."""
    theirs, tokens = _theirs(), some_tokens(2, 9, vocab_size=31)
    theirs.save_pretrained(tmp_path)
    config = theirs.config.to_dict()
    bare = dict(theirs.transformer.state_dict())
    bare["h.0.attn.bias"] = torch.ones(1, 1, 20, 20)
    bare["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in theirs.state_dict().items()}
    close(from_gpt2(*read_folder(tmp_path)).eval()(tokens), theirs(tokens).logits)
    for state in (load_file(tmp_path / "model.safetensors"), bare, wrapped):
        close(from_gpt2(config, state).eval()(tokens), theirs(tokens).logits)


def test_what_we_give_goes_through_their_files(tmp_path):
    ours = from_gpt2(_theirs().config.to_dict(), _theirs().state_dict()).eval()
    config, state = to_gpt2(ours)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    transformers.GPT2Config(**config).save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert type(theirs).__name__ == "GPT2LMHeadModel"
    close(theirs(some_tokens()).logits, ours(some_tokens()))


def test_absent_biases_become_zeros():
    ours = tiny(
        feed_forward={"name": "mlp", "activation": "gelu_tanh", "bias": False},
        norm={"name": "layer", "bias": False},
        attention={"name": "grouped_query", "bias": False},
    )
    config, state = to_gpt2(ours)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config)).double().eval()
    theirs.load_state_dict(state)
    close(theirs(some_tokens()).logits, ours(some_tokens()))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"position": "sinusoidal"}, "positions are Sinusoidal, not learned"),
        ({"mask": "full"}, "layer 0 has a mask beside causal"),
        ({"mask": ["causal", "padding"]}, "a mask beside causal"),
        ({"block": "parallel"}, "not pre-norm"),
        ({"norm": "none"}, "not pre-norm with layer norms"),
        ({"feed_forward": "none"}, "has no mlp"),
        ({"attention": "summed_heads"}, "has SummedHeads, not multi_head"),
        ({"attention": "grouped_query", "n_kv_heads": 2}, "not multi_head"),
        ({"attention": {"name": "multi_head", "scale": 0.3}}, "scales its scores in another way"),
        ({"d_head": 5}, "heads are 5 wide"),
        ({"head": {"name": "language_model", "bias": True}}, "head has a bias"),
        ({"n_layers": 0}, "no layers"),
        ({"layers": {"1": {"feed_forward": {"name": "mlp", "activation": "relu"}}}}, "differ in activation"),
        ({"layers": {"1": {"position": "none"}}}, "positions of its own"),
    ],
)
def test_what_gpt2_cannot_hold_is_told(model, reason):
    with pytest.raises(UserError, match=reason):
        to_gpt2(tiny(**model))


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"activation_function": "gelu_nwe"}, r"'gelu_nwe' has no like here\. Did you mean 'gelu_new'\?"),
        ({"add_cross_attention": True}, "cross_attention"),
    ],
)
def test_configs_that_are_no_gpt(dials, message):
    with pytest.raises(UserError, match=message):
        section_of({**SIZES, **dials})


def test_folders_that_hold_no_gpt2_are_told(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.json.*pytorch_model\.bin is a pickle"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        read_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(UserError, match="cannot be read"):
        read_folder(tmp_path)
    save_file({"wte.weight": torch.zeros(1, 1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="whole numbers for n_embd, n_head, n_layer, vocab_size"):
        from_gpt2(*read_folder(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match="of the kind 'llama'; only 'gpt2'"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text("[1, 2")
    with pytest.raises(UserError, match="cannot be read"):
        read_folder(tmp_path)


def test_weights_that_do_not_fit_are_all_told():
    theirs = _theirs()
    config, state = theirs.config.to_dict(), theirs.state_dict()
    table = state["lm_head.weight"]
    with pytest.raises(UserError, match=r"no GPT-2: transformer\.h\.0\.rotary\.weight, score\.weight"):
        from_gpt2(config, {**state, "transformer.h.0.rotary.weight": table, "score.weight": table})
    less = {k: v for k, v in state.items() if k != "transformer.h.1.mlp.c_fc.bias"}
    with pytest.raises(UserError, match=r"blocks\.1\.feed_forward\.up\.bias is missing"):
        from_gpt2(config, less)
    with pytest.raises(UserError, match=r"position\.weight is \(20, 24\) where the config says \(10, 24\)"):
        from_gpt2({**config, "n_positions": 10}, state)
    with pytest.raises(UserError, match=r"blocks\.2\.attention\.out\.bias is left over"):
        from_gpt2({**config, "n_layer": 2}, state)


def test_an_imported_model_is_built_again_from_its_config():
    theirs = _theirs(tie_word_embeddings=False, scale_attn_by_inverse_layer_idx=True)
    ours = from_gpt2(theirs.config.to_dict(), theirs.state_dict()).eval()
    again = build(ours.config).double().eval()
    again.load_state_dict(ours.state_dict())
    close(again(some_tokens()), ours(some_tokens()))
