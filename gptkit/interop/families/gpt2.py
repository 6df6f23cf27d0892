"""GPT-2 (Radford et al. 2019), whose biases may be absent in a model of ours: they are written as zeros."""

from __future__ import annotations

from gptkit.interop.gpt2 import from_gpt2 as load
from gptkit.interop.gpt2 import read
from gptkit.interop.gpt2_export import to_gpt2 as export

__all__ = ["ARCHITECTURE", "export", "load", "read"]

ARCHITECTURE = "GPT2LMHeadModel"
