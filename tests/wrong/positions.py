"""Position encodings that are wrong on purpose."""

from __future__ import annotations

import torch
from torch import Tensor

from gptkit.model.interfaces import DistanceBias, PositionalEncoding
from gptkit.model.positions import Learned
from wrong import wrong


class Position(PositionalEncoding):
    def __init__(self, shape) -> None:
        super().__init__()
        self.width = shape.d_model

    def waves(self, positions: Tensor) -> Tensor:
        return torch.sin(positions.double().unsqueeze(-1) * torch.linspace(0.1, 1.0, self.width).double())


@wrong("model.position", "relative_as_it_says")
class AbsoluteThatSaysRelative(Position):
    is_relative = True

    def embed(self, x, positions):
        return x + self.waves(positions).to(x.dtype)


@wrong("model.position", "relative_as_it_says")
class RelativeThatSaysNothing(DistanceBias):
    is_relative = False

    def __init__(self, shape) -> None:
        super().__init__()

    def bias_of(self, distance):
        return -distance.abs().double().unsqueeze(0)


@wrong("model.position", "relative_as_it_says")
class KeysTurnedBackwards(Position):
    is_relative = True

    def rotate(self, q, k, q_positions, k_positions):
        def turn(x, sign):
            angle = sign * q_positions[:, None, :, None].to(x.dtype)
            a, b = x.chunk(2, dim=-1)
            return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1)

        return turn(q, 1), turn(k, -1)


@wrong("model.position", "relative_as_it_says")
class StrongerAtOddPlaces(Position):
    is_relative = True

    def score_bias(self, q, k, q_positions, k_positions):
        distance = (q_positions[:, None, :, None] - k_positions[:, None, None, :]).abs()
        return -0.3 * (distance * (1 + q_positions % 2)[:, None, :, None]).to(q.dtype)


@wrong("model.position", "relative_as_it_says")
class StartsAnewAfterTheContext(Position):
    is_relative = True

    def __init__(self, shape) -> None:
        super().__init__(shape)
        self.context = shape.context_length

    def score_bias(self, q, k, q_positions, k_positions):
        q_place, k_place = q_positions % self.context, k_positions % self.context
        return -0.3 * (q_place[:, None, :, None] - k_place[:, None, None, :]).abs().to(q.dtype)


@wrong("model.position", "shapes_hold")
class OneFactorForEachQueryHead(Position):
    """Scales keys by factors as many as the query heads: there may be fewer heads of keys."""

    def __init__(self, shape) -> None:
        super().__init__(shape)
        self.factors = torch.linspace(0.5, 1.5, shape.n_heads)

    def rotate(self, q, k, q_positions, k_positions):
        return q, k * (1 + self.factors.view(-1, 1, 1) * k_positions[:, None, :, None]).to(k.dtype)


@wrong("model.position", "shapes_hold")
class TakesHeadsForShares(Position):
    """Takes it that the heads' widths add up to d_model."""

    def __init__(self, shape) -> None:
        super().__init__(shape)
        self.scale = torch.linspace(0.5, 1.5, shape.d_model // shape.n_heads)

    def rotate(self, q, k, q_positions, k_positions):
        return q * self.scale.to(q.dtype), k


@wrong("model.position", "ends_where_it_says")
class TableThatClamps(Learned):
    def require(self, last_position):
        pass

    def embed(self, x, positions):
        return super().embed(x, positions.clamp(max=self.max_positions - 1))


@wrong("model.position", "ends_where_it_says")
class NaNPastTheContext(Position):
    def embed(self, x, positions):
        return x + self.waves((12.5 - positions.double()).sqrt()).to(x.dtype)


@wrong("model.position", "decoding_equals_reading")
class CountsFromZeroEachTime(Position):
    def embed(self, x, positions):
        return x + self.waves(torch.arange(x.shape[1])[None]).to(x.dtype)


@wrong("model.position", "causal")
class ShareOfTheLength(Position):
    def embed(self, x, positions):
        return x + self.waves(10 * positions / positions.shape[-1]).to(x.dtype)


@wrong("model.position", "repeats_itself")
class MovesOnEachTime(Position):
    calls = 0

    def embed(self, x, positions):
        self.calls += 1
        return x + self.waves(positions + self.calls).to(x.dtype)


@wrong("model.position", "repeats_itself")
class NoiseInEvaluation(Position):
    def embed(self, x, positions):
        return x + self.waves(positions).to(x.dtype) + 0.01 * torch.randn_like(x)


@wrong("model.position", "breaks_the_symmetry")
class TellsNothing(Position):
    pass


@wrong("model.position", "leaves_no_trace")
class DrawsFromTheGlobalGenerator(Position):
    def embed(self, x, positions):
        torch.rand(1)
        return x + self.waves(positions).to(x.dtype)


@wrong("model.position", "leaves_no_trace")
class ChangesTheThreads(Position):
    def embed(self, x, positions):
        torch.set_num_threads(torch.get_num_threads() + 1)
        return x + self.waves(positions).to(x.dtype)


@wrong("model.position", "saves_and_loads")
class StateOutsideTheState(Position):
    def __init__(self, shape) -> None:
        super().__init__(shape)
        self.table = torch.randn(64, shape.d_model)

    def embed(self, x, positions):
        return x + self.table[positions].to(x.dtype)


@wrong("model.position", "survives_bfloat16")
class ForgetsTheDtype(Position):
    def embed(self, x, positions):
        return x + self.waves(positions)
