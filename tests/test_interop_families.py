"""Each family against Hugging Face's own model: the same logits, both ways, padded, cached, in several shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gptkit.errors import RunError, UserError
from gptkit.interop import families
from gptkit.interop.hugging_face import from_hf, load_hf, save_hf, section_of, to_hf
from peers import DEEPSEEK, FAMILIES, IDS, LLAMA, LONG, OPT, differ, first, ours, theirs, tokens

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize(("kind", "options"), FAMILIES, ids=IDS)
def test_the_same_logits_plain_padded_and_cached(kind: str, options: dict[str, Any]) -> None:
    peer = theirs(kind, options)
    model, x = ours(peer), tokens()
    with torch.no_grad():
        expected = peer(x).logits
        assert differ(model(x), expected) < 1e-5
        mask = torch.ones_like(x)
        mask[0, :6] = 0
        at = (mask.cumsum(-1) - 1).clamp(min=0)
        padded = peer(
            x, attention_mask=mask, **({} if kind in {"opt", "bloom", "mpt"} else {"position_ids": at})
        ).logits
        assert differ(model(x, padding=mask == 0)[0, 6:], padded[0, 6:]) < 1e-5
        for cut in (1, 9, 20):
            caches = model.new_caches(2, 21)
            parts = [model(x[:, :cut], caches=caches)]
            parts += [model(x[:, i : i + 1], caches=caches) for i in range(cut, 21)]
            assert differ(torch.cat(parts, dim=1), expected) < 1e-5


@pytest.mark.parametrize(("kind", "options"), FAMILIES, ids=IDS)
def test_the_same_logits_in_64_bits(
    kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = theirs(kind, options).double()
    peer.config._experts_implementation = "eager"  # the fused one knows 32 bits at most
    model, x = ours(peer), tokens()
    found = model(x)
    widen(monkeypatch)
    exact_rotations(peer)
    with torch.no_grad():
        assert differ(found, peer(x).logits) < 1e-10


def widen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let their angles, scores and softmax, which ask for 32 bits by name, have 64."""
    to, softmax = torch.Tensor.to, torch.nn.functional.softmax

    def wide(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        swap = {torch.float32: torch.float64}
        args = tuple(swap.get(a, a) if isinstance(a, torch.dtype) else a for a in args)
        return to(
            self, *args, **{k: swap.get(v, v) if isinstance(v, torch.dtype) else v for k, v in kwargs.items()}
        )

    monkeypatch.setattr(torch.Tensor, "to", wide)
    monkeypatch.setattr(torch.Tensor, "type", wide)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim=-1, dtype=None: softmax(x, dim=dim))


def exact_rotations(model: Any) -> None:
    """Give their tables of frequencies and angles, and constants, the digits that 32 bits left out."""
    for module in model.modules():
        for kind in ("sliding_attention", "full_attention"):
            if hasattr(module, f"{kind}_inv_freq"):
                width = 2 * getattr(module, f"{kind}_inv_freq").numel()
                base = module.config.rope_parameters[kind]["rope_theta"]
                exact = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
                setattr(module, f"{kind}_inv_freq", exact)
        if hasattr(module, "gelu_impl"):  # BLOOM's sqrt(2 / pi) has eight digits
            module.gelu_impl = torch.nn.GELU("tanh")
        if hasattr(module, "embed_scale"):
            module.embed_scale = torch.tensor(module.scalar_embed_scale, dtype=torch.float64)
        if hasattr(module, "inv_freq"):
            width = 2 * module.inv_freq.numel()
            rope = module.config.rope_parameters
            exact = rope["rope_theta"] ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
            if rope["rope_type"] in {"default", "linear"}:
                module.inv_freq = exact / rope.get("factor", 1.0)
            else:  # their formula, in 64 bits
                formula = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS[rope["rope_type"]]
                module.inv_freq, module.attention_scaling = formula(module.config, torch.device("cpu"))
                module.original_inv_freq = module.inv_freq
        if hasattr(module, "embed_positions") and isinstance(module.embed_positions, Tensor):
            rows, width = module.embed_positions.shape
            exact = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
            angle = torch.arange(rows, dtype=torch.float64)[:, None] * exact
            module.embed_positions = torch.cat([angle.sin(), angle.cos()], dim=1)


@pytest.mark.parametrize(("kind", "options"), FAMILIES, ids=IDS)
def test_back_again_whole(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    peer = theirs(kind, options)
    model, x = ours(peer), tokens()
    place = save_hf(model, tmp_path / "out", kind)
    assert json.loads((place / "config.json").read_text())["model_type"] == kind
    back, loading = transformers.AutoModelForCausalLM.from_pretrained(place, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), loading
    with torch.no_grad():
        assert differ(back.eval()(x).logits, peer(x).logits) < 1e-5
    peer.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists()
    with torch.no_grad():
        assert torch.equal(load_hf(tmp_path / "theirs")(x), model(x))
        assert torch.equal(load_hf(place)(x), model(x))


def test_what_cannot_be_held_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model_type='gpt_neo' cannot be read. Did you mean 'gpt_neox'\?"):
        section_of({"model_type": "gpt_neo"})
    with pytest.raises(UserError, match="word_embed_proj_dim=16: only 32"):
        section_of({**OPT, "model_type": "opt", "word_embed_proj_dim": 16})
    with pytest.raises(UserError, match="rope_type='spiral' is not known"):
        section_of({**LONG, "model_type": "falcon", "rope_parameters": {"rope_type": "spiral"}})
    with pytest.raises(UserError, match="alibi=True: Falcon rounds"):
        section_of({**LONG, "model_type": "falcon", "alibi": True})
    with pytest.raises(UserError, match="has no config.json"):
        load_hf(tmp_path)


def test_falcon_s_alibi_is_no_function_of_distance() -> None:
    from transformers.models.falcon.modeling_falcon import build_alibi_tensor

    bias = build_alibi_tensor(torch.ones(1, 2048, dtype=torch.long), 32, torch.float32)[0, 0]
    steps = bias.diff()  # of ALiBi, all alike
    assert steps.min() == 0
    assert steps.max() > 4 * steps.mean()


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    peer = theirs("opt", OPT)
    config, state = peer.config.to_dict(), dict(peer.state_dict())
    less = {name: tensor for name, tensor in state.items() if not name.endswith("layers.1.fc1.bias")}
    with pytest.raises(UserError, match="layers.1.fc1.bias is missing"):
        from_hf(config, less)
    with pytest.raises(UserError, match="model.extra belongs to nothing"):
        from_hf(config, {**state, "model.extra": torch.zeros(1)})
    name = "model.decoder.final_layer_norm.weight"
    with pytest.raises(UserError, match="norm.weight"):
        from_hf(config, {**state, name: torch.zeros(31)})
    (tmp_path / "config.json").write_text(json.dumps(config))
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="names no files of weights beside it"):
        load_hf(tmp_path)


def test_deepseek_s_layers_that_predict_further_tokens_are_not_read() -> None:
    peer = theirs("deepseek_v3", DEEPSEEK)
    config, state, x = peer.config.to_dict(), dict(peer.state_dict()), tokens()
    further = {
        "model.layers.2.eh_proj.weight": torch.zeros(32, 64),
        "model.layers.2.enorm.weight": torch.zeros(32),
    }
    with torch.no_grad():
        model = from_hf({**config, "num_nextn_predict_layers": 1}, {**state, **further})
        assert differ(model(x), peer(x).logits) < 1e-5
    with pytest.raises(UserError, match="model.layers.2.eh_proj.weight belongs to nothing"):
        from_hf({**config, "num_nextn_predict_layers": 0}, {**state, **further})
    past = {"model.layers.3.eh_proj.weight": torch.zeros(32, 64)}
    with pytest.raises(UserError, match="model.layers.3.eh_proj.weight belongs to nothing"):
        from_hf({**config, "num_nextn_predict_layers": 1}, {**state, **past})


@pytest.mark.parametrize("kind", families.names())
def test_a_model_saved_without_its_head_is_read_where_the_head_is_tied(kind: str, tmp_path: Path) -> None:
    peer, x = theirs(kind, {**first(kind), "tie_word_embeddings": True}), tokens()
    peer.base_model.save_pretrained(tmp_path)
    if kind == "gptj":  # whose head has a bias that stands nowhere else
        with pytest.raises(UserError, match="lm_head.bias is missing"):
            load_hf(tmp_path)
        return
    with torch.no_grad():
        assert differ(load_hf(tmp_path)(x), peer(x).logits) < 1e-5


def test_a_model_saved_without_its_head_wants_it_where_it_is_not_tied(tmp_path: Path) -> None:
    theirs("llama", LLAMA).base_model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="lm_head.weight is missing"):
        load_hf(tmp_path)


def test_a_model_that_no_family_holds_says_what_differs(tmp_path: Path) -> None:
    import gptkit

    words = [
        "tokenizer=byte",
        "model.n_layers=1",
        "model.d_model=16",
        "model.n_heads=2",
        "position=sinusoidal",
    ]
    model = gptkit.build(gptkit.compose(words))
    with pytest.raises(UserError, match="position") as told:
        to_hf(model)
    assert "No family of transformers holds this model" in str(told.value)
    with pytest.raises(UserError, match="gptj cannot hold this model"):
        to_hf(model, "gptj")
    (tmp_path / "there").mkdir()
    with pytest.raises(RunError, match="is there already"):
        save_hf(model, tmp_path / "there")


def test_export_from_the_command_line_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gptkit
    from gptkit.cli import main

    monkeypatch.chdir(tmp_path)
    theirs("gpt_neox", FAMILIES[0][1]).save_pretrained("neox")
    assert main(["import", "from=neox", "out=ours", "tokenizer=none"]) == 0
    assert main(["export", "run=ours", "to=hf", "out=back"]) == 0
    assert "as gpt_neox." in capsys.readouterr().out
    x = tokens()
    with torch.no_grad():
        assert torch.equal(gptkit.load_hf("back")(x), gptkit.load("ours")(x))
    assert main(["export", "run=ours", "to=hf", "out=back"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["export", "run=ours", "out=x", "familly=opt"]) == 2
    assert "Did you mean 'family'?" in capsys.readouterr().err
    assert main(["export", "run=ours", "to=ggml", "out=x"]) == 2
    assert main(["export", "run=ours"]) == 2
