"""`gptkit export`: a run's model as other programs read it."""

from __future__ import annotations

from gptkit.cli.arguments import take_keys
from gptkit.errors import UserError

SUMMARY = "write a run's model as transformers reads it"
USAGE = """\
gptkit export run=RUN to=hf   out=DIR       [family=NAME]
gptkit export run=RUN to=gguf out=FILE.gguf [family=NAME] [dtype=f32|f16|bf16]

  run     a run directory or a part of its name, a model directory, or latest
  to      hf: config.json and safetensors for Hugging Face's transformers
          gguf: one file for llama.cpp, and what is built on it
  out     the folder or the file to write; it must not be there yet
  family  the model_type to write it as; otherwise the first that holds it
  dtype   of a GGUF file's matrices; f32 where it is not told

  gptkit export run=latest to=hf out=models/mine-hf
  gptkit export run=models/mine to=hf out=models/mine-hf family=gpt_neox
  gptkit export run=latest to=gguf out=models/mine.gguf dtype=f16

A model that no family holds exactly is refused, with what differs.
"""
_KEYS = ("run", "to", "out", "family", "dtype")
_TARGETS = ("hf", "gguf")


def run(args: list[str]) -> int:
    """Write the folder, or the file.

    Raises:
        UserError: an argument is missing or unknown, or the model cannot be held.
    """
    told = take_keys("export", args, _KEYS)
    target, out, family, dtype = (told.get(key) for key in ("to", "out", "family", "dtype"))
    target = target or "hf"
    if not out:
        raise UserError(f"gptkit export needs out=DIR, or out=FILE.gguf.\n\n{USAGE}")
    if target not in _TARGETS:
        raise UserError(f"to={target}: expected one of {', '.join(_TARGETS)}.")
    if dtype and target != "gguf":
        raise UserError(f"dtype={dtype}: to=hf keeps the model's own; only to=gguf takes a dtype.")
    import gptkit
    from gptkit.files import parse_json

    model = gptkit.load(told.get("run", "latest"))
    if target == "gguf":
        from gptkit.interop.gguf import save_gguf

        written = save_gguf(model, out, family or None, dtype or "f32")
        print(f"{written}: {model.n_parameters():,} parameters.")
        print(f"Try: llama-cli -m {str(written)!r}")
        return 0
    place = gptkit.save_hf(model, out, family or None)
    kind = parse_json((place / "config.json").read_bytes())["model_type"]
    print(f"{place}: {model.n_parameters():,} parameters as {kind}.")
    print(f"Try: transformers.AutoModelForCausalLM.from_pretrained({str(place)!r})")
    return 0
