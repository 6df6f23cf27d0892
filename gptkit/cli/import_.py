"""`gptkit import`: a model from elsewhere becomes a model directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptkit.cli.arguments import take_keys
from gptkit.errors import UserError

if TYPE_CHECKING:
    from gptkit.model.gpt import GPT
    from gptkit.text.tokenizers.base import Tokenizer

SUMMARY = "make a model directory of a model of nanoGPT or transformers"
USAGE = """\
gptkit import from=PATH out=DIR [tokenizer=NAME] [data=PATH] [activation=NAME]

  from        nanoGPT's ckpt.pt, or a folder of transformers with config.json
              and model.safetensors
  out         the model directory to write; it must not be there yet
  tokenizer   what the model's tokens mean: gpt2, char, … or none. Otherwise the
              folder's own tokenizer.json or tokenizer.model; else gpt2 if the
              vocabulary is GPT-2's
  data        the text that a tokenizer such as char is made from, or
              shakespeare
  activation  gelu_tanh for checkpoints of nanoGPT before June 2023; otherwise
              gelu

Only tensors and plain values are read; a file that would run code is refused.

  gptkit import from=out/ckpt.pt out=models/mine
  gptkit import from=out/ckpt.pt out=models/char tokenizer=char data=input.txt
  gptkit next run=models/char prompt="To be"
"""
KEYS = ("from", "out", "tokenizer", "data", "activation")
GPT2_SIZES = (50257, 50304)  # GPT-2's tokens, and as many rounded up to a multiple of 64


def run(args: list[str]) -> int:
    """Read the model, find its tokenizer, write the directory.

    Raises:
        UserError: an argument is missing or unknown, or the model cannot be read.
    """
    told = options(args)
    model = read_model(Path(told["from"]), told.get("activation"), own="tokenizer" not in told)
    node, tokenizer = tokenizer_for(model, told)
    from gptkit.load import save

    model.tokenizer = tokenizer
    model.config = {**(model.config or {}), **({"tokenizer": node} if node else {})}
    place = save(model, told["out"])
    print(f"{place}: {model.n_parameters():,} parameters, tokenizer {node['name'] if node else 'none'}.")
    if node:
        print(f'Try: gptkit next run={place} prompt="To be"')
    return 0


def options(args: list[str]) -> dict[str, str]:
    """The arguments by key.

    Raises:
        UserError: one is no `key=value`, is unknown or given twice, or `from` or `out` is missing.
    """
    told = take_keys("import", args, KEYS)
    missing = [f"{key}=…" for key in ("from", "out") if not told.get(key)]
    if missing:
        raise UserError(f"gptkit import needs {' and '.join(missing)}.\n\n{USAGE}")
    return told


def read_model(path: Path, activation: str | None = None, own: bool = True) -> GPT:
    """The model in a folder of `transformers`, with the folder's `own` tokenizer, or in a nanoGPT checkpoint.

    Raises:
        UserError: it is neither, or it cannot be read.
    """
    if not path.is_dir():
        from gptkit.interop.nanogpt import from_nanogpt, load_checkpoint

        return from_nanogpt(load_checkpoint(path), activation=activation or "gelu")
    if activation is not None:
        raise UserError("activation is for nanoGPT's checkpoints; a folder's config.json tells its own.")
    if (path / "ckpt.pt").is_file() and not (path / "config.json").exists():
        raise UserError(f"{path} is a folder of nanoGPT's. Give from={path / 'ckpt.pt'}.")
    from gptkit.interop.hugging_face import load_hf

    return load_hf(path, tokenizer=own)


def tokenizer_for(model: GPT, told: dict[str, str]) -> tuple[dict[str, Any] | None, Tokenizer | None]:
    """The tokenizer asked for, else the model's own, else GPT-2's where the vocabulary has that size.

    Raises:
        UserError: it is not known, or it does not fit the model's vocabulary.
    """
    size = model.shape.vocab_size
    if model.tokenizer is not None and model.config is not None:
        return model.config["tokenizer"], model.tokenizer
    name = told.get("tokenizer") or ("gpt2" if size in GPT2_SIZES else None)
    if name is None and Path(told["from"]).is_dir():
        name = "none"  # such as of a folder that holds weights alone
    if name is None:
        raise UserError(_ask(size))
    if name == "none":
        return None, None
    from gptkit import registry
    from gptkit.text.tokenizers import build_tokenizer

    node = {"name": name}
    made_from = told.get("data")
    if registry.load("tokenizer", name).needs_corpus and not made_from:
        raise UserError(
            f"tokenizer={name} is made from a text: add data=PATH with the whole text that nanoGPT read, "
            "such as data=data/shakespeare_char/input.txt."
        )
    tokenizer = build_tokenizer(node, _corpus(made_from) if made_from else None)
    exact = made_from is not None  # its numbers follow from the text, so another size is another text
    if tokenizer.vocab_size > size or (exact and tokenizer.vocab_size != size):
        why = " It must be made from the very text that nanoGPT read." if exact else ""
        raise UserError(
            f"tokenizer={name} has {tokenizer.vocab_size} tokens, but the model has rows for {size}.{why}"
        )
    return node, tokenizer


def _corpus(given: str) -> Any:
    from gptkit import registry

    if given == "shakespeare":
        return registry.load("data", "shakespeare")()
    return registry.load("data", "text")(path=given)


def _ask(size: int) -> str:
    return (
        f"What do the model's {size} tokens mean? nanoGPT keeps that in meta.pkl, a pickle, which can run code "
        "when it is loaded, so it is not read. Add tokenizer=gpt2 if it was trained on GPT-2's tokens; "
        "tokenizer=char data=input.txt if on characters, with the text they came from; or tokenizer=none "
        "for the weights alone."
    )
