"""What `gptkit new plugin` writes for each slot: a small part that works, its YAML and its test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scaffold:
    """Templates of a part's source, its YAML and its test; `$name`, `$cls` and `$slot` are filled in."""

    part: str
    yaml: str
    test: str


_TRAINS = '''"""The part trains, and its options are checked."""

from __future__ import annotations

import pytest
import torch

import gptkit


def test_it_trains() -> None:
    cfg = gptkit.compose(["$group=$name", "tokenizer=byte", "model.n_layers=2", "model.context_length=16"])
    model = gptkit.build(cfg)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    tokens = torch.randint(0, 256, (4, 17), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(20):
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(gptkit.errors.ConfigError, match="no option 'optoin'"):
        gptkit.compose(["$group=$name", "tokenizer=byte", "$key.optoin=1"])
'''

_POSITION = Scaffold(
    part='''"""A position encoding: each head prefers near keys, by the logarithm of the distance."""

from __future__ import annotations

from torch import Tensor

from gptkit import register
from gptkit.model.interfaces import DistanceBias, ModelShape


@register("$slot", "$name")
class $cls(DistanceBias):
    """score - slope * log(1 + |distance|), the slope halved from head to head.

    Args:
        slope: of the first head.
    """

    def __init__(self, shape: ModelShape, *, slope: float = 1.0) -> None:
        super().__init__()
        self.slopes = [slope / 2**head for head in range(shape.n_heads)]

    def bias_of(self, distance: Tensor) -> Tensor:
        slopes = distance.new_tensor(self.slopes, dtype=distance.double().dtype)
        return -slopes.view(-1, *[1] * distance.ndim) * distance.abs().log1p()
''',
    yaml="name: $name\nslope: 1.0  # of the first head\n",
    test=_TRAINS.replace("$key", "model.position"),
)
_FEED_FORWARD = Scaffold(
    part='''"""A feed-forward network with a gate."""

from __future__ import annotations

from torch import Tensor, nn

from gptkit import register
from gptkit.model.interfaces import FeedForward, ModelShape


@register("$slot", "$name")
class $cls(FeedForward):
    """down(silu(gate x) * up x) (Shazeer 2020).

    Args:
        bias: whether the maps have biases.
    """

    def __init__(self, shape: ModelShape, *, bias: bool = False) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.d_model, shape.d_ff, bias=bias)
        self.up = nn.Linear(shape.d_model, shape.d_ff, bias=bias)
        self.down = nn.Linear(shape.d_ff, shape.d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))
''',
    yaml="name: $name\nbias: false  # whether the maps have biases\n",
    test=_TRAINS.replace("$key", "model.feed_forward"),
)
_NORM = Scaffold(
    part='''"""A norm without a mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit import register
from gptkit.model.interfaces import Norm


@register("$slot", "$name")
class $cls(Norm):
    """x / sqrt(mean(x^2) + eps) over the last axis, then a gain (Zhang and Sennrich 2019).

    Args:
        eps: added to the mean square.
    """

    def __init__(self, width: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, self.weight.shape, self.weight, self.eps)
''',
    yaml="name: $name\neps: 1.0e-06  # added to the mean square\n",
    test=_TRAINS.replace("$key", "model.norm"),
)
_MASK = Scaffold(
    part='''"""A mask: a token reads itself and, of those before it, every n-th."""

from __future__ import annotations

from torch import Tensor

from gptkit import register
from gptkit.model.interfaces import Mask, MaskContext


@register("$slot", "$name")
class $cls(Mask):
    """key <= query, and their distance a multiple of `every`.

    Args:
        every: the distance between two keys that a query reads.
    """

    allows_self = True

    def __init__(self, *, every: int = 2) -> None:
        super().__init__()
        self.every = every

    def allows(self, q_positions: Tensor, k_positions: Tensor, context: MaskContext) -> Tensor:
        distance = q_positions - k_positions
        return (distance >= 0) & (distance % self.every == 0)
''',
    yaml="$name:\n  every: 2  # the distance between two keys that a query reads\n",
    test=_TRAINS.replace("$key", "model.mask.$name"),
)
_SCHEDULE = Scaffold(
    part='''"""A schedule: the learning rate falls with the square root of the step."""

from __future__ import annotations

from gptkit import register


@register("$slot", "$name")
class $cls:
    """min(s / warm-up, sqrt(warm-up / s)) at step s, counted from 1 (Vaswani et al. 2017).

    Args:
        warmup_steps: steps before the rate is whole.
    """

    def __init__(self, *, warmup_steps: int = 100) -> None:
        self.warmup_steps = max(1, warmup_steps)

    def factor(self, step: int, max_steps: int) -> float:
        number = step + 1
        return min(number / self.warmup_steps, (self.warmup_steps / number) ** 0.5)
''',
    yaml="name: $name\nwarmup_steps: 100  # steps before the rate is whole\n",
    test='''"""The schedule rises, then falls."""

from __future__ import annotations

import gptkit
from gptkit import registry


def test_it_rises_then_falls() -> None:
    node = gptkit.compose(["$group=$name", "$group.warmup_steps=10"])["$group"]
    schedule = registry.load("$slot", node.pop("name"))(**node)
    factors = [schedule.factor(step, 100) for step in range(100)]
    assert factors[9] == 1.0 == max(factors)
    assert factors[0] < factors[5] and factors[99] < factors[50] < 1.0
''',
)
_SAMPLER = Scaffold(
    part='''"""A sampler: tokens of about the expected surprise."""

from __future__ import annotations

from torch import Tensor

from gptkit import register
from gptkit.generate.samplers import Sampler


@register("$slot", "$name")
class $cls(Sampler):
    """Draw from the tokens whose surprise is nearest to the entropy (Meister et al. 2023).

    Args:
        mass: the probability that the kept tokens hold.
    """

    def __init__(self, *, mass: float = 0.9) -> None:
        self.mass = mass

    def probabilities(self, logits: Tensor, history: list[list[int]]) -> Tensor:
        logs = logits.float().log_softmax(-1)
        chances = logs.exp()
        entropy = -(chances * logs).nan_to_num(0.0).sum(-1, keepdim=True)
        order = (-logs - entropy).abs().argsort(-1)
        ordered = chances.gather(-1, order)
        drop = ordered.cumsum(-1) - ordered >= self.mass
        kept = chances.masked_fill(drop.scatter(-1, order, drop), 0.0)
        return kept / kept.sum(-1, keepdim=True)
''',
    yaml="name: $name\nmass: 0.9  # the probability that the kept tokens hold\n",
    test='''"""What the sampler gives are probabilities, and it leaves something out."""

from __future__ import annotations

import torch

from gptkit import registry


def test_it_gives_probabilities() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    chances = registry.load("$slot", "$name")(mass=0.5).probabilities(logits, [[], [], []])
    assert torch.allclose(chances.sum(-1), torch.ones(3))
    assert (chances == 0).any()
''',
)
SCAFFOLDS: dict[str, Scaffold] = {
    "model.position": _POSITION,
    "model.mask": _MASK,
    "model.norm": _NORM,
    "model.feed_forward": _FEED_FORWARD,
    "schedule": _SCHEDULE,
    "sampler": _SAMPLER,
}
