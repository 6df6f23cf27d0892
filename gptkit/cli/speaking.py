"""What `gptkit generate` and `gptkit next` share: their words, the run they load, where text goes.

A word is cut at its first `=` and nothing else is read into it, so a prompt may hold any character.
All is checked before torch is imported.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gptkit import run as runs
from gptkit import schema
from gptkit.errors import ConfigError, Problem, UserError, did_you_mean
from gptkit.signature import Option

if TYPE_CHECKING:
    from gptkit.model.gpt import GPT

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]+)?")
_ESCAPE = re.compile(r"\\([ntr\\])")
_SIGNS = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


@dataclass(frozen=True, kw_only=True)
class Speaking:
    """Words that both verbs take.

    Args:
        run: a run, a part of its name, `latest`, one of its checkpoints, or a model directory.
        prompt: the text to go on from; `-` reads it from standard input.
        step: the checkpoint of this step; null takes the newest.
        device: auto, cpu, cuda, cuda:1 or mps.
        run_root: the folder of runs.
    """

    run: str = "latest"
    prompt: str = ""
    step: int | None = None
    device: str = "auto"
    run_root: str = "runs"


def read_words(words: Sequence[str], known: Mapping[str, Option]) -> tuple[dict[str, Any], list[Problem]]:
    """The values of `key=value` words, and what is wrong with them; a key of a list may come again.

    Args:
        words: as typed.
        known: every key that is allowed.
    """
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for word in words:
        key, equals, text = word.partition("=")
        option = known.get(key)
        if not equals:
            problems.append(
                Problem("", f'{word!r}: expected key=value; quote a text with spaces: prompt="To be".')
            )
        elif option is None:
            hint = did_you_mean(key, known) or f"It takes: {', '.join(known)}."
            problems.append(Problem(key, "no such key.", hint))
        elif option.type == list[str]:
            found[key] = found.get(key, []) + texts(text)
        elif key in found:
            problems.append(Problem(key, "is given twice."))
        else:
            found[key] = value(text, option.type)
            if not schema.fits(option.type, found[key]):
                expected = schema.expected(option.type)
                problems.append(
                    Problem(key, f"expected {expected}, got {schema.show(found[key])}.", option.help)
                )
    return found, problems


def value(text: str, kind: Any) -> Any:
    """A value as the type wants it; the text itself where it is none of these."""
    kinds = get_args(kind) or (kind,)
    if str in kinds:
        return text
    if text in ("null", "none", "None", "") and type(None) in kinds:
        return None
    for number in (int, float):
        try:
            if number in kinds:
                return number(text)
        except ValueError:
            continue
    try:
        return float(text) if int in kinds else text  # so that the answer speaks of a number
    except ValueError:
        return text


def texts(text: str) -> list[str]:
    r"""One text, in which `\n`, `\t` and `\\` are read, or a JSON list of texts."""
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except json.JSONDecodeError:
            listed = None
        if isinstance(listed, list) and all(isinstance(entry, str) for entry in listed):
            return listed
    return [_ESCAPE.sub(lambda found: _SIGNS[found[1]], text)]


def common_problems(found: Mapping[str, Any], least: Mapping[str, int]) -> Iterator[Problem]:
    """What is wrong with numbers and the device.

    Args:
        found: the values read.
        least: the least number that a key may have.
    """
    for key, low in {"step": 0, **least}.items():
        number = found.get(key)
        if isinstance(number, int) and number < low:
            yield Problem(key, f"expected a whole number of {low} or more, got {number}.")
    device = found.get("device", "auto")
    if not _DEVICE.fullmatch(device):
        yield Problem("device", f"expected auto, cpu, cuda, cuda:N or mps, got {device!r}.")


def find_run(found: Mapping[str, Any]) -> tuple[str, runs.Run]:
    """What to load, and the run that it belongs to.

    Raises:
        RunError: there is no such run.
    """
    spec = found.get("run", "latest")
    place = Path(spec)
    if place.parent.name == runs.CHECKPOINTS and place.is_dir():
        return spec, runs.Run(place.parent.parent)
    run = runs.find(spec, found.get("run_root", "runs"), loadable=True)
    return str(run.path), run


def refuse(problems: Sequence[Problem]) -> None:
    """Raises ConfigError if there are problems."""
    if problems:
        raise ConfigError(problems)


def read_prompt(found: Mapping[str, Any]) -> str:
    """The prompt, from standard input where it is `-`; one line end at its end is taken off there.

    Raises:
        UserError: standard input is not UTF-8.
    """
    prompt = found.get("prompt", "")
    if prompt == "-":
        data = sys.stdin.buffer.read()
        try:
            return re.sub(r"\r?\n\Z", "", data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"prompt: standard input is not UTF-8 at byte {error.start}.") from None
    return prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def load_model(place: str, found: Mapping[str, Any]) -> GPT:
    """The model on its device, with a tokenizer.

    Raises:
        UserError: the device is not there, or the model has no tokenizer.
    """
    from gptkit.load import load

    model = load(place, step=found.get("step"), device=_device(found.get("device", "auto")))
    if model.tokenizer is None:
        raise UserError(
            f"{place} has no tokenizer, so it can read no prompt. Import it again with tokenizer=NAME."
        )
    return model


def _device(name: str) -> str:
    import torch

    cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if cuda else "cpu"
    number = int(name.partition(":")[2] or 0)
    missing = (name.startswith("cuda") and not (cuda and number < torch.cuda.device_count())) or (
        name == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise UserError(f"device: there is no {name} here that torch can use. Take device=auto.")
    return name


def lenient_output() -> None:
    """Have standard output write `?` for what its encoding lacks, in place of failing."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
