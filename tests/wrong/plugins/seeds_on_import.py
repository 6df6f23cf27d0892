"""A position encoding that is sound, in a module that changes much around it when it is imported."""

import os
import random
from pathlib import Path

import torch

from gptkit.model.interfaces import ModelShape, PositionalEncoding
from gptkit.registry import register

torch.manual_seed(1234)
random.seed(5)
torch.set_num_threads(torch.get_num_threads() + 1)
torch.set_default_dtype(torch.float64)
os.environ["SEEDS_ON_IMPORT"] = "1"
Path("imported.txt").write_text("here", "utf-8")


@register("model.position", "seeds_on_import")
class SeedsOnImport(PositionalEncoding):
    """No encoding."""

    is_relative = True

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
