"""Several networks beside one another, each applied to the tokens that were sent to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.model.interfaces import mark

Activation = Callable[[Tensor, Tensor], Tensor]  # of gate and up


class Maps(nn.Module):
    """One linear map for each expert, kept as [E, in, out]; biases lie one after another.

    Args:
        experts, width_in, width_out: sizes.
        bias: whether the maps have biases.
    """

    def __init__(self, experts: int, width_in: int, width_out: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, width_in, width_out))
        self.bias = nn.Parameter(torch.zeros(experts * width_out)) if bias else None

    def forward(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Rows [R, in], those of the first expert first, `counts` [E] of each -> [R, out]."""
        weight = self.weight
        if torch.is_autocast_enabled(rows.device.type):
            kind = torch.get_autocast_dtype(rows.device.type)
            rows, weight = rows.to(kind), weight.to(kind)
        if rows.is_cuda and rows.dtype == torch.bfloat16 and hasattr(F, "grouped_mm"):
            out = F.grouped_mm(rows, weight, offs=counts.cumsum(0).int())
        else:
            parts = rows.split(counts.tolist())
            out = torch.cat([part @ one for part, one in zip(parts, weight.unbind(), strict=True)])
        if self.bias is None:
            return out
        biases = self.bias.view(weight.shape[0], -1).to(out.dtype)
        return out + biases.repeat_interleave(counts, dim=0, output_size=out.shape[0])


class Experts(nn.Module):
    """act(gate(x), up(x)) through a map back, for each expert.

    Args:
        experts, d_model, d_expert: sizes.
        activation: of gate and up.
        bias: whether the maps have biases.
    """

    def __init__(
        self,
        experts: int,
        d_model: int,
        d_expert: int,
        activation: Activation,
        bias: bool,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.gate_up = Maps(experts, d_model, 2 * d_expert, bias)
        self.down = mark(Maps(experts, d_expert, d_model, bias), "residual")

    def forward(self, rows: Tensor, counts: Tensor) -> Tensor:
        gate, up = self.gate_up(rows, counts).chunk(2, dim=-1)
        return self.down(self.activation(gate, up), counts)


def clamped_swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """g sigmoid(1.702 g) (u + 1), g at most 7 and u within 7 of 0 (gpt-oss 2025)."""
    gate, up = gate.clamp(max=7.0), up.clamp(-7.0, 7.0)
    return gate * torch.sigmoid(1.702 * gate) * (up + 1)


ACTIVATIONS: dict[str, Activation] = {
    "swiglu": lambda gate, up: F.silu(gate) * up,
    "geglu": lambda gate, up: F.gelu(gate, approximate="tanh") * up,
    "reglu": lambda gate, up: F.relu(gate) * up,
    "clamped_swiglu": clamped_swiglu,
}
