"""Attention that decodes at a fixed cost: linear attention and retention."""

from gptkit_recurrent_attention.linear import Linear
from gptkit_recurrent_attention.retention import Retention

__all__ = ["Linear", "Retention"]
