"""`gptkit next`: the ranked next tokens after a prompt, the explainer's first picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gptkit import files, schema
from gptkit.cli import speaking
from gptkit.cli.arguments import split_flags
from gptkit.errors import Problem, UserError

if TYPE_CHECKING:
    from gptkit.generate.next_tokens import NextToken

SUMMARY = "show the most probable next tokens after a prompt"
USAGE = """\
gptkit next [run=latest] [prompt=TEXT] [k=10] [out=next.svg] [--json]

  run       a run, a part of its name, latest, a checkpoint, or a model
            directory
  prompt    any text; prompt=- reads it from standard input; none asks how a
            text begins
  k         how many tokens (10)
  out       write a picture as well, NAME.svg
  device    auto, cpu, cuda, cuda:1 or mps
  step      the checkpoint of this step
  run_root  the folder of runs (runs)
  --json    print one object with ids and probabilities

White space is shown by signs: · a space, ↵ a new line, ⇥ a tab.

  gptkit next prompt="Ce soir, je vais chercher les"
  gptkit next run=models/gpt2 prompt="To be, or not to" k=20 out=next.svg
"""


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words of this verb alone.

    Args:
        k: how many tokens.
        out: a picture to write, NAME.svg.
    """

    k: int = 10
    out: str | None = None


def run(args: list[str]) -> int:
    """Load the run, rank, and print.

    Raises:
        ConfigError: words are wrong, or there is no such run; carries every problem.
    """
    flags, words = split_flags(args, ["--json"])
    known = {**schema.options_of(speaking.Speaking), **schema.options_of(Words)}
    found, problems = speaking.read_words(words, known)
    problems += speaking.common_problems(found, {"k": 1})
    out = Path(found["out"]) if found.get("out") else None
    if out is not None and out.suffix.lower() != ".svg":
        problems.append(Problem("out", f"expected NAME.svg, got {found['out']!r}."))
    place = ""
    try:
        place, loaded = speaking.find_run(found)
        loaded.config()  # its problems are told before torch is imported
    except UserError as error:
        problems.append(Problem("", str(error)))
    speaking.refuse(problems)
    prompt = speaking.read_prompt(found)
    model = speaking.load_model(place, found)
    from gptkit.generate.next_tokens import next_tokens

    assert model.tokenizer is not None
    tokens = next_tokens(model, model.tokenizer, prompt, found.get("k", 10))
    speaking.lenient_output()
    if "--json" in flags:
        about = {"run": place, "prompt": prompt, "tokens": [asdict(token) for token in tokens]}
        print(json.dumps({**about, "others": others(tokens)}, ensure_ascii=False))
    else:
        show(prompt, tokens)
    if out is not None:
        write_picture(out, prompt, tokens)
    return 0


def others(tokens: Sequence[NextToken]) -> float:
    """The probability of all tokens that are not shown."""
    return max(0.0, 1.0 - sum(token.probability for token in tokens))


def show(prompt: str, tokens: Sequence[NextToken]) -> None:
    """Print the bars under the prompt."""
    from rich.console import Console
    from rich.text import Text

    from gptkit.generate.bars import percent, table, visible
    from gptkit.train.terminal import writable

    console = Console(highlight=False)
    title = visible(prompt).replace("·", " ") if prompt else ""
    console.print(Text(f"{title} …".strip(), style="bold"))
    console.print(table(tokens, console.width, writable("█▏", sys.stdout)))
    console.print(Text(f"all others together: {percent(others(tokens))}", style="dim"))


def write_picture(out: Path, prompt: str, tokens: Sequence[NextToken]) -> None:
    """Write the bars as SVG.

    Raises:
        UserError: it cannot be written there.
    """
    from gptkit.generate.bars import svg

    try:
        files.write_bytes(out, svg(prompt, tokens).encode("utf-8"))
    except OSError as error:
        raise UserError(f"out: {out} cannot be written: {files.cause(error)}.") from None
    print(f"The picture: {out}", file=sys.stderr)
