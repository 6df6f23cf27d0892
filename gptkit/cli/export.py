"""`gptkit export`: a run's model as other programs read it."""

from __future__ import annotations

from gptkit.cli.arguments import split_flags, take_key
from gptkit.errors import UserError, did_you_mean

SUMMARY = "write a run's model as transformers reads it"
USAGE = """\
gptkit export run=RUN to=hf out=DIR [family=NAME]

  run     a run directory or a part of its name, a model directory, or latest
  to      hf: config.json and safetensors for Hugging Face's transformers
  out     the folder to write; it must not be there yet
  family  the model_type to write it as; the first that holds the model otherwise

  gptkit export run=latest to=hf out=models/mine-hf
  gptkit export run=models/mine to=hf out=models/mine-hf family=gpt_neox

A model that no family holds exactly is refused, with what differs.
"""
_KEYS = ("run", "to", "out", "family")
_TARGETS = ("hf",)


def run(args: list[str]) -> int:
    """Write the folder.

    Raises:
        UserError: an argument is missing or unknown, or the model cannot be held.
    """
    _, words = split_flags(args, [])
    told: dict[str, str | None] = {}
    for key in _KEYS:
        told[key], words = take_key(words, key)
    if words:
        key = words[0].split("=")[0]
        raise UserError(
            f"export takes no {words[0]!r}. {did_you_mean(key, _KEYS)} It takes: {', '.join(_KEYS)}."
        )
    if not told["out"]:
        raise UserError(f"export needs out=DIR.\n\n{USAGE}")
    if (told["to"] or "hf") not in _TARGETS:
        raise UserError(f"to={told['to']}: expected one of {', '.join(_TARGETS)}.")
    import gptkit
    from gptkit.files import parse_json

    model = gptkit.load(told["run"] or "latest")
    place = gptkit.save_hf(model, told["out"], told["family"])
    kind = parse_json((place / "config.json").read_bytes())["model_type"]
    print(f"{place}: {model.n_parameters():,} parameters as {kind}.")
    print(f"Try: transformers.AutoModelForCausalLM.from_pretrained({str(place)!r})")
    return 0
