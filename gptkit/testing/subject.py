"""A part under test: small models that hold it, in 64 bits, with weights that hide nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gptkit import registry
from gptkit.errors import GptkitError
from gptkit.registry import Component
from gptkit.schema import normal_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from gptkit.model.gpt import GPT
    from gptkit.model.interfaces import ModelShape

CONTEXT, VOCABULARY, EXACT = 12, 13, 1e-12
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "context_length": CONTEXT, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 24,
    "position": {"name": "sinusoidal"},
}  # fmt: skip


class Refused(Exception):
    """A law is not about this part, or the part said by a named error that it cannot; says why."""


@dataclass(frozen=True)
class Subject:
    """A part with the options to try it with.

    Attributes:
        component: from the registry.
        options: those that differ from the defaults.
    """

    component: Component
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slot(self) -> str:
        return self.component.slot

    @property
    def field(self) -> str:
        """The slot's last word, which is its key in the `model` section."""
        return self.slot.rsplit(".", 1)[-1]

    @property
    def label(self) -> str:
        """Such as `model.position=rotary interleaved=True`."""
        return " ".join(
            [f"{self.slot}={self.component.name}", *(f"{k}={v}" for k, v in self.options.items())]
        )

    @cached_property
    def node(self) -> dict[str, Any]:
        """The part as a config names it."""
        options = dict(self.options)
        if registry.SLOTS[self.slot].many:
            return normal_part(registry.SLOTS[self.slot], {self.component.name: options})
        return {"name": self.component.name, **options}

    def config(self, **model: Any) -> dict[str, Any]:
        """The config of a small model that holds the part, or without it if it belongs elsewhere."""
        own = {self.field: self.node} if self.slot.startswith("model.") else {}
        return {"model": {**SIZES, **own, **model}, "seed": 1}

    def build(self, **model: Any) -> GPT:
        """A small model as it begins.

        Raises:
            Refused: the part refuses these options or sizes by a named error.
        """
        from gptkit.model import assemble

        with named_errors_refuse():
            made = assemble.build(self.config(**model)).eval()
            if self.options:
                made(tokens(1, 2))  # such as a kernel that this machine lacks
        return made

    def model(self, **model: Any) -> GPT:
        """The same in float64, with every weight stirred: zeros and ones would hide what a part does."""
        return stir(self.build(**model).double())

    def part(self, *given: Any) -> Any:
        """The part by itself.

        Args:
            given: what the builder hands it.
        """
        from gptkit.model.assemble import part

        with named_errors_refuse():
            if self.slot.startswith("model."):
                return part(self.field, self.node, *given)
            return self.component.load()(*given, **self.options)


def shape(**changes: int) -> ModelShape:
    """The sizes of the small model."""
    from gptkit.model.interfaces import ModelShape

    sizes = {
        "vocab_size": VOCABULARY, "context_length": CONTEXT, "d_model": 16, "n_layers": 2, "n_heads": 2,
        "n_kv_heads": 2, "d_head": 8, "d_ff": 24,
    }  # fmt: skip
    return ModelShape(**{**sizes, **changes})


def stir(model: Any) -> Any:
    """Move every weight a little, by a seed of its own name."""
    import torch

    from gptkit.model.init import seed_of

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(seed_of(7, name))
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    return model


def tokens(batch: int = 2, length: int = CONTEXT, seed: int = 3) -> Tensor:
    """Token numbers [B, T], the same at each call."""
    import torch

    return torch.randint(0, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


@contextmanager
def named_errors_refuse() -> Iterator[None]:
    """What gptkit's own errors say is a refusal; any other error is a fault."""
    try:
        yield
    except GptkitError as error:
        raise Refused(str(error)) from error


def close(found: Tensor, expected: Tensor, told: str, within: float = EXACT) -> None:
    """Assert that two tensors are equal up to rounding, which grows with what they hold."""
    assert found.shape == expected.shape, f"{told} Shapes: {list(found.shape)} and {list(expected.shape)}."
    error = float((found - expected).detach().abs().max()) if found.numel() else 0.0
    bound = within * max(1.0, float(expected.detach().abs().max())) if found.numel() else within
    assert error <= bound, f"{told} They differ by {error:.3g}; allowed is {bound:.1g}."
