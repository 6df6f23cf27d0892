"""Small models in float64 for the tests, every parameter of which matters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gptkit.model.assemble import build, part, shape_of
from gptkit.model.gpt import GPT
from gptkit.model.interfaces import MaskContext, ModelShape, Step
from gptkit.model.positions import NoPosition

SIZES: dict[str, Any] = {"context_length": 12, "d_model": 16, "n_layers": 2, "n_heads": 4}
VOCAB = 23


def tiny(*, seed: int = 1, vocab_size: int = VOCAB, spread: float = 0.3, **model: Any) -> GPT:
    """A model that is ready to be compared: float64, no dropout, random gains and biases as well."""
    return scatter(build({"model": {**SIZES, **model}, "seed": seed}, vocab_size=vocab_size), spread, seed)


def scatter(module: nn.Module, spread: float = 0.3, seed: int = 1) -> Any:
    """Draw every parameter of a module from Normal(0, spread), gains around 1, in float64."""
    generator = torch.Generator().manual_seed(seed)
    module.double().eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * spread
            parameter.copy_(drawn + 1 if "norm" in name and name.endswith("weight") else drawn)
    return module


def shape(**model: Any) -> ModelShape:
    return shape_of({**SIZES, **model}, VOCAB)


def attention(name: str | dict[str, Any], mask: Any = "causal", position: Any = None, **sizes: Any) -> Any:
    """One attention layer by itself."""
    of = shape(**sizes)
    where = part("position", position, of) if position is not None else NoPosition(of)
    return scatter(part("attention", name, of, where, part("mask", mask)))


def step(length: int, *, plain: bool = True, patterns: list[Tensor] | None = None, **context: Any) -> Step:
    """A pass over `length` tokens that stand in order."""
    at = torch.arange(length).unsqueeze(0)
    return Step(at, at, MaskContext(**context), plain=plain, patterns=patterns)


def some_tokens(rows: int = 2, length: int = 9, seed: int = 0, vocab_size: int = VOCAB) -> Tensor:
    return torch.randint(0, vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(ours: Any, theirs: Any, tolerance: float = 1e-12) -> None:
    """Equal to `tolerance`, absolute and relative; NaN is never equal."""
    ours = torch.as_tensor(ours)
    torch.testing.assert_close(
        ours, torch.as_tensor(theirs).to(ours), rtol=tolerance, atol=tolerance, check_layout=False
    )
