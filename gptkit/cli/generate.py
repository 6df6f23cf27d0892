"""`gptkit generate`: a trained model goes on from a prompt."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gptkit import registry, schema
from gptkit.cli import speaking
from gptkit.cli.arguments import split_flags
from gptkit.cli.paper import coloured
from gptkit.errors import ConfigError, Problem, UserError, did_you_mean
from gptkit.signature import Option

SUMMARY = "have a trained model go on from a prompt"
USAGE = """\
gptkit generate [run=latest] [prompt=TEXT] [key=value ...] [--json]

  run          a run, a part of its name, latest, a checkpoint, or a model
               directory
  prompt       any text; prompt=- reads it from standard input; none starts a
               new text
  max_tokens   tokens to draw at most (200)
  samples      texts to draw (1)
  seed         the same seed gives the same texts (0)
  stop         a text to stop before, such as stop="\\n\\n"; may be given again
  sampler      greedy or sample; the run's own if left out
  temperature  sample's: divides the scores; 0 takes the most probable token
  top_k, top_p, min_p, repetition_penalty
               sample's, in Hugging Face's order: penalty, temperature, top_k,
               top_p, min_p
  device       auto, cpu, cuda, cuda:1 or mps
  step         the checkpoint of this step
  run_root     the folder of runs (runs)
  --json       print one object: all samples, their tokens, why they ended

  gptkit generate prompt="To be"
  gptkit generate run=nano prompt="ROMEO:" temperature=0.7 top_k=50 samples=3
  cat letter.txt | gptkit generate prompt=- sampler=greedy stop="\\n"
"""


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words of this verb alone.

    Args:
        max_tokens: tokens to draw at most.
        samples: texts to draw.
        seed: the same seed gives the same texts.
        stop: a text to stop before.
        sampler: how tokens are drawn.
    """

    max_tokens: int = 200
    samples: int = 1
    seed: int = 0
    stop: list[str] | None = None
    sampler: str | None = None


def run(args: list[str]) -> int:
    """Load the run, draw, and print.

    Raises:
        ConfigError: words are wrong, or there is no such run; carries every problem.
    """
    flags, words = split_flags(args, ["--json"])
    found, place, node = understand(words)
    prompt = speaking.read_prompt(found)
    model = speaking.load_model(place, found)
    told = {key: found[key] for key in ("max_tokens", "seed") if key in found}
    told |= {"stop": found.get("stop", []), "sampler": node}
    speaking.lenient_output()
    if "--json" in flags:
        as_json(place, model, prompt, found.get("samples", 1), told)
    elif found.get("samples", 1) > 1:
        several(model, prompt, found["samples"], told)
    else:
        streamed(model, prompt, told)
    return 0


def understand(words: list[str]) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """The values, what to load, and the sampler's node, all checked; torch is not imported.

    Raises:
        ConfigError: words are wrong, or there is no such run; carries every problem.
    """
    options = sampler_options()
    known = {**schema.options_of(speaking.Speaking), **schema.options_of(Words)}
    known["stop"] = Option("stop", list[str], "list[str]")
    plain = [word.removeprefix("sampler.") for word in words]
    found, problems = speaking.read_words(plain, {**known, **options})
    problems += speaking.common_problems(found, {"max_tokens": 0, "samples": 1})
    if "" in found.get("stop", []):
        problems.append(Problem("stop", "expected a text that is not empty."))
    place, node = "", {"name": found.get("sampler", "sample")}
    try:
        place, loaded = speaking.find_run(found)
        own = loaded.config().get("sampler")
        node = dict(own) if own and "sampler" not in found else node
    except UserError as error:
        problems.append(Problem("", str(error)))
    node |= {
        key: found[key] for key in options if key in found and schema.fits(options[key].type, found[key])
    }
    speaking.refuse(problems + sampler_problems(node))
    return found, place, node


def sampler_options() -> dict[str, Option]:
    """The options of every sampler, by name."""
    parts = [registry.find("sampler", name).declaration for name in registry.names("sampler")]
    return {option.name: option for part in parts for option in part.options}


def sampler_problems(node: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a sampler's node, ranges included."""
    name = node["name"]
    if name not in registry.names("sampler"):
        offered = registry.names("sampler")
        hint = did_you_mean(name, offered) or f"Available: {', '.join(offered)}."
        return [Problem("sampler", f"there is no sampler named {name!r}.", hint)]
    taken = registry.find("sampler", name).declaration
    wrong = [key for key in node if key != "name" and taken.option(key) is None]
    if wrong:
        others = [
            other
            for other in registry.names("sampler")
            if registry.find("sampler", other).declaration.option(wrong[0])
        ]
        hint = f"Add sampler={others[0]}." if others else ""
        return [Problem(key, f"the sampler {name!r} takes no such option.", hint) for key in wrong]
    problems = schema.validate({"sampler": dict(node)})
    if problems:
        return problems
    try:
        registry.load("sampler", name)(**{key: given for key, given in node.items() if key != "name"})
    except ConfigError as error:
        return error.problems
    except UserError as error:
        return [Problem("", str(error))]
    return []


def streamed(model: Any, prompt: str, told: dict[str, Any]) -> None:
    """Print the prompt and then each piece as it is drawn."""
    from gptkit.generate.loop import stream

    pieces = stream(model, model.tokenizer, prompt, **told)
    show(prompt, dim=True)
    try:
        for piece in pieces:
            show(piece)
    finally:
        print(flush=True)


def several(model: Any, prompt: str, samples: int, told: dict[str, Any]) -> None:
    """Print the samples one after another; they are drawn together."""
    from gptkit.generate.loop import generate

    for number, text in enumerate(generate(model, model.tokenizer, prompt, samples=samples, **told), 1):
        print(f"--- sample {number} of {samples} ---")
        show(prompt, dim=True)
        show(text)
        print()


def as_json(place: str, model: Any, prompt: str, samples: int, told: dict[str, Any]) -> None:
    """Print one object with all there is to know."""
    from gptkit.generate.loop import continuations

    drawn = continuations(model, model.tokenizer, prompt, samples=samples, **told)
    listed = [{"text": one.text, "tokens": one.tokens, "ended": one.ended} for one in drawn]
    about = {"run": place, "prompt": prompt, "seed": told.get("seed", 0), "sampler": told["sampler"]}
    print(json.dumps({**about, "samples": listed}, ensure_ascii=False))


def show(text: str, dim: bool = False) -> None:
    """Write text at once; on a terminal without control characters, which a model may write."""
    out = sys.stdout
    if out.isatty():
        from gptkit.train.terminal import safe

        text = safe(text, out)
        if dim and text and coloured(out):
            text = f"\033[2m{text}\033[0m"
    out.write(text)
    out.flush()
