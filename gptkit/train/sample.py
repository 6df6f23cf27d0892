"""Texts drawn from a model in the middle of training, and the file that keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gptkit import files, registry
from gptkit.errors import GptkitError
from gptkit.schema import part_options

_HEADING = "=== step "


def sample_text(model: nn.Module, tokenizer: Any, config: Mapping[str, Any]) -> str:
    """Continue the config's sample prompt with its sampler; the same weights give the same text.

    Where no text can be drawn (a prompt that the tokenizer cannot spell, say), the answer says why:
    a sample never ends a run.
    """
    from gptkit.generate.loop import generate

    settings = config["trainer"]
    node = config.get("sampler") or {"name": "sample"}
    training = model.training
    model.eval()
    try:
        sampler = registry.load("sampler", node["name"])(**part_options("sampler", node))
        with torch.no_grad():
            texts = generate(
                model,
                tokenizer,
                settings["sample_prompt"],
                max_tokens=settings["sample_tokens"],
                sampler=sampler,
                seed=config["seed"],
            )
    except GptkitError as error:
        return f"[no sample: {error}]"
    finally:
        model.train(training)
    return texts[0]


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
