"""`gptkit import`: from a checkpoint to a model directory that loads and speaks."""

import json
import subprocess
import sys

import pytest
import torch

import gptkit
from gptkit.cli import import_
from gptkit.errors import UserError
from test_model_nanogpt import ARGUMENTS, Nano, write
from tiny import close, some_tokens

TEXT = "To be, or not to be: that is the question.\nLe chat mange la souris.\n" * 20


@pytest.fixture
def nano(tmp_path):
    """A nanoGPT checkpoint over the characters of TEXT, the text, and the model itself."""
    sizes = {**ARGUMENTS, "vocab_size": len(set(TEXT))}
    model = Nano(**sizes)
    path = write(tmp_path / "ckpt.pt", model)
    found = torch.load(path, weights_only=True)
    torch.save({**found, "model_args": sizes}, path)
    (tmp_path / "input.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "meta.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    return tmp_path, model.eval()


def test_characters(nano, capsys):
    """Characters are numbered in their sorted order, as nanoGPT numbers them."""
    folder, theirs = nano
    out = folder / "models" / "char"
    args = [f"from={folder / 'ckpt.pt'}", f"out={out}", "tokenizer=char", f"data={folder / 'input.txt'}"]
    assert import_.run(args) == 0
    assert "tokenizer char" in capsys.readouterr().out
    assert {"config.json", "model.safetensors", "tokenizer"} <= {path.name for path in out.iterdir()}
    ours = gptkit.load(out)
    numbers = {letter: number for number, letter in enumerate(sorted(set(TEXT)))}
    text = "Le chat mange"
    assert ours.tokenizer.encode(text) == [numbers[letter] for letter in text]
    tokens = torch.tensor([[numbers[letter] for letter in text]])
    close(ours(tokens), theirs(tokens), 1e-5)
    config = json.loads((out / "config.json").read_text("utf-8"))
    assert config["tokenizer"]["name"] == "char"
    assert config["model"]["n_layers"] == 3


def test_weights_alone(nano, capsys):
    folder, theirs = nano
    assert import_.run([f"from={folder / 'ckpt.pt'}", f"out={folder / 'bare'}", "tokenizer=none"]) == 0
    assert "tokenizer none" in capsys.readouterr().out
    ours = gptkit.load(folder / "bare")
    assert ours.tokenizer is None
    close(ours(some_tokens()), theirs(some_tokens()), 1e-5)


@pytest.mark.parametrize("rows", [50257, 50304])
def test_gpt2s_vocabulary_brings_gpt2s_tokenizer(rows, tmp_path):
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 2, "block_size": 8, "vocab_size": rows}
    path = tmp_path / "ckpt.pt"
    torch.save({"model": Nano(**sizes).state_dict(), "model_args": sizes}, path)
    assert import_.run([f"from={path}", f"out={tmp_path / 'out'}"]) == 0
    ours = gptkit.load(tmp_path / "out")
    assert ours.tokenizer.encode("Hello, world") == [15496, 11, 995]
    assert ours.shape.vocab_size == rows


def test_a_folder_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=8, n_layer=2, n_head=2, n_positions=16, vocab_size=257)
    ).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    assert import_.run([f"from={tmp_path / 'theirs'}", f"out={tmp_path / 'ours'}", "tokenizer=byte"]) == 0
    tokens = some_tokens(2, 16, vocab_size=257)
    close(gptkit.load(tmp_path / "ours")(tokens), theirs(tokens).logits, 1e-5)


def test_meta_pkl_is_explained_and_never_read(nano, monkeypatch):
    folder, _ = nano
    monkeypatch.setattr("os.system", lambda _: pytest.fail("the pickle ran"))
    with pytest.raises(
        UserError, match=r"(?s)meta\.pkl, a pickle.*tokenizer=gpt2.*tokenizer=char data=.*tokenizer=none"
    ):
        import_.run([f"from={folder / 'ckpt.pt'}", f"out={folder / 'out'}"])
    with pytest.raises(UserError, match=r"add data=PATH with the whole text"):
        import_.run([f"from={folder / 'ckpt.pt'}", f"out={folder / 'out'}", "tokenizer=char"])
    assert not (folder / "out").exists()


def test_another_text_is_told(nano):
    folder, _ = nano
    args = [f"from={folder / 'ckpt.pt'}", f"out={folder / 'out'}", "tokenizer=char"]
    for other in ("abc" * 50, TEXT + "éèê"):
        (folder / "other.txt").write_text(other, encoding="utf-8")
        with pytest.raises(UserError, match=r"the model has rows for .*the very text that nanoGPT read"):
            import_.run([*args, f"data={folder / 'other.txt'}"])
    with pytest.raises(UserError, match=r"tokenizer=gpt2 has 50257 tokens, but the model has rows for"):
        import_.run([*args[:2], "tokenizer=gpt2"])
    with pytest.raises(UserError, match=r"chr"):
        import_.run([*args[:2], "tokenizer=chr"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], r"needs from=… and out=…"),
        (["from=a.pt"], r"needs out=…"),
        (["from=a.pt", "out=b", "form=c"], r"takes no 'form'\. Did you mean 'from'\?"),
        (["from=a.pt", "out"], r"'out': expected key=value"),
        (["from=a.pt", "from=b.pt", "out=c"], r"from is given twice: a\.pt and b\.pt"),
        (["from=nowhere.pt", "out=b"], r"no file nowhere\.pt"),
    ],
)
def test_arguments_that_cannot_be(args, message):
    with pytest.raises(UserError, match=message):
        import_.run(args)


def test_folders_that_cannot_be(nano):
    folder, _ = nano
    with pytest.raises(UserError, match=r"folder of nanoGPT's\. Give from=.*ckpt\.pt"):
        import_.run([f"from={folder}", f"out={folder / 'out'}"])
    with pytest.raises(UserError, match="activation is for nanoGPT"):
        import_.run([f"from={folder}", f"out={folder / 'out'}", "activation=gelu"])
    with pytest.raises(UserError, match=r"activation.*gelu"):
        import_.run([f"from={folder / 'ckpt.pt'}", f"out={folder / 'out'}", "activation=glu"])
    with pytest.raises(UserError, match="is there already"):
        import_.run([f"from={folder / 'ckpt.pt'}", f"out={folder}", "tokenizer=none"])


def test_the_verb_is_described_without_torch():
    script = "import sys; from gptkit.cli.import_ import SUMMARY, USAGE; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
