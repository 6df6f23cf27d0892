"""What a model costs before it is trained: parameters by part, operations by token, memory.

Operations count multiplications and additions of matrix products alone, as Kaplan et al. (2020) and
Chowdhery et al. (2022, appendix B): two for each weight that a token meets, and for each key that it
may read two for each number of the key and of the value, in every query head. Keys that a causal
mask hides are counted, as there; the backward pass is twice the forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from gptkit.model.gpt import GPT


def flops_per_token(model: GPT, context_length: int | None = None, backward: bool = True) -> float:
    """Operations for each token: one forward pass, and with `backward` the backward pass as well.

    Args:
        model: on any device, `meta` among them.
        context_length: keys that a token may read; the model's own if left out.
        backward: count the backward pass.
    """
    keys = context_length or model.shape.context_length
    weights = sum(2 * count for count in product_weights(model).values())
    reading = sum(2 * keys * sum(score_widths(block.attention)) for block in model.blocks)  # type: ignore[arg-type]
    return float((weights + reading) * (3 if backward else 1))


def product_weights(model: GPT) -> dict[str, int]:
    """How many weights each map multiplies a token with, by name; a tied table counts in the head alone."""
    found: dict[str, int] = {}
    tables = {id(model.embedding.weight)} | {id(p) for p in model.position.parameters()}
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 2 and not isinstance(module, nn.Embedding) and id(parameter) not in tables:
                found[f"{name}.{own}"] = parameter.numel()
    weight = getattr(model.head, "weight", None)
    if weight is not None and id(weight) in tables:
        found["head"] = weight.numel()
    return found


def score_widths(attention: nn.Module) -> tuple[int, int]:
    """Numbers that a query multiplies with each key, and with each value, over all its heads.

    Read from what the attention caches for one token, so any attention with keys and values is counted;
    one that keeps none costs nothing here.
    """
    cache = attention.new_cache(1, 1, torch.device("meta"), torch.float32)  # type: ignore[operator]
    heads: int = attention.shape.n_heads  # type: ignore[union-attr, assignment]
    keys, values = (
        int(getattr(cache, name).shape[-1]) if hasattr(cache, name) else 0 for name in ("keys", "values")
    )
    return heads * keys, heads * values


def parameters_by_part(model: GPT) -> dict[str, int]:
    """Parameters of each part of the model, the blocks' parts summed over layers; shared ones once."""
    found: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        words = name.split(".")
        part = words[2] if words[0] == "blocks" else words[0]
        found[part] = found.get(part, 0) + parameter.numel()
    return found


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        weights: the parameters in float32.
        gradients: one for each.
        moments: AdamW's two averages.
        activations: an estimate of what the forward pass keeps for the backward pass.
        cache_per_token: keys and values of one token, in float32, over all layers.
    """

    weights: int
    gradients: int
    moments: int
    activations: int
    cache_per_token: int

    @property
    def training(self) -> int:
        """All that training holds at once."""
        return self.weights + self.gradients + self.moments + self.activations


def memory(model: GPT, batch: int = 1, length: int | None = None) -> Memory:
    """Memory of training on `batch` rows of `length` tokens, and of decoding.

    The activations are an estimate: each map keeps its input, each norm and sum its own, the fused
    attention its four operands (Korthikanti et al. 2022, without the pattern).
    """
    rows = batch * (length or model.shape.context_length)
    weights = 4 * model.n_parameters(trainable=False)
    kept = sum(module.in_features for module in model.modules() if isinstance(module, nn.Linear))
    kept += len(model.blocks) * (4 * model.shape.d_model + 4 * model.shape.n_heads * model.shape.d_head)
    kept += len(model.blocks) * model.shape.d_ff + 2 * model.shape.d_model
    return Memory(weights, weights, 2 * weights, 4 * rows * kept, cache_bytes(model))


def cache_bytes(model: GPT) -> int:
    """Bytes that one token takes in the caches of all layers, in float32."""
    device = torch.device("meta")
    total = 0
    for block in model.blocks:
        cache = block.attention.new_cache(1, 1, device, torch.float32)  # type: ignore[union-attr, operator]
        total += sum(t.nbytes for t in vars(cache).values() if isinstance(t, torch.Tensor))
    return total
