"""A text drawn from a model in the middle of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gptkit import registry
from gptkit.errors import GptkitError
from gptkit.schema import part_options


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
