"""Texts drawn from a model in the middle of training, and the file that keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gptkit import files

_HEADING = "=== step "


def sample_text(model: Any, tokenizer: Any, config: Mapping[str, Any]) -> str:
    """Continue the config's sample prompt with its sampler; the same weights give the same text.

    Where none can be drawn, such as from a prompt that the tokenizer cannot spell, the answer says why:
    no sample ends a run.
    """
    from gptkit.generate.loop import generate

    settings = config["trainer"]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            texts = generate(
                model,
                tokenizer,
                settings["sample_prompt"],
                max_tokens=settings["sample_tokens"],
                sampler=config.get("sampler"),
                seed=config["seed"],
            )
    except Exception as error:
        return f"[no sample: {type(error).__name__}: {error}]"
    finally:
        model.train(training)
    return settings["sample_prompt"] + texts[0]


def add_sample(path: Path, step: int, text: str) -> None:
    """Write a sample of text under its step."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{_HEADING}{step} ===\n{text}\n\n")


def rewind_samples(path: Path, step: int) -> None:
    """Drop the samples after `step`; they will be drawn again."""
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text("utf-8").splitlines(keepends=True):
        number = line.removeprefix(_HEADING).split(" ", 1)[0] if line.startswith(_HEADING) else ""
        if number.isdigit() and int(number) > step:
            break
        kept.append(line)
    files.write_bytes(path, "".join(kept).encode("utf-8"))


def last_sample(folder: Path) -> str:
    """The newest sample of a run; empty if it drew none."""
    try:
        text = (folder / "samples.txt").read_text("utf-8")
    except OSError:
        return ""
    newest = text.rpartition(_HEADING)[2]
    return newest.partition(" ===\n")[2].rstrip("\n")
