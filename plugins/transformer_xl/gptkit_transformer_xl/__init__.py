"""Transformer-XL's relative positions: queries meet sinusoids of the distance, and two biases of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptkit.errors import UserError, check_options
from gptkit.model.interfaces import ModelShape, PositionalEncoding, float_positions
from gptkit.model.options import base_rule
from gptkit.registry import register


@register("model.position", "transformer_xl")
class TransformerXL(PositionalEncoding):
    """score + (u . k_j + (q_i + v) . W R_(i-j)) / sqrt(d_head), R_n the sinusoids of n (Dai et al. 2019, section 3.3).

    u and v are learned by each head, W maps R to heads. As sin and cos of a difference are products of
    those of its terms, no table of distances is made: the second part is one matrix product.

    Args:
        base: wavelengths of R go from 2 pi to almost base * 2 pi positions.
    """

    is_relative = True

    def __init__(self, shape: ModelShape, *, base: float = 10000.0) -> None:
        super().__init__()
        check_options("model.position", base_rule(base))
        if shape.n_kv_heads != shape.n_heads:
            raise UserError(
                f"transformer_xl gives each head a vector for its own keys, but {shape.n_heads} heads share "
                f"{shape.n_kv_heads}. Take model.n_kv_heads=null, or another position encoding."
            )
        self.heads, self.d_head, self.base = shape.n_heads, shape.d_head, base
        self.pairs = (shape.d_model + 1) // 2
        self.u = nn.Parameter(torch.zeros(shape.n_heads, shape.d_head))
        self.v = nn.Parameter(torch.zeros(shape.n_heads, shape.d_head))
        self.maps = nn.Linear(2 * self.pairs, shape.n_heads * shape.d_head, bias=False)

    def score_bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        content = torch.einsum("hd,bhsd->bhs", self.u, k).unsqueeze(-2)
        weight = self.maps.weight.view(self.heads, self.d_head, 2 * self.pairs)
        of_sin, of_cos = torch.einsum("bhtd,hdr->bhtr", q + self.v.unsqueeze(1), weight).chunk(2, dim=-1)
        (q_sin, q_cos), (k_sin, k_cos) = self.waves(q_positions, q.dtype), self.waves(k_positions, q.dtype)
        # sin(i - j) = sin i cos j - cos i sin j, and cos(i - j) = cos i cos j + sin i sin j
        by_cos = of_sin * q_sin + of_cos * q_cos
        by_sin = of_cos * q_sin - of_sin * q_cos
        place = torch.cat([by_cos, by_sin], dim=-1) @ torch.cat([k_cos, k_sin], dim=-1).transpose(-2, -1)
        return (content + place) * self.d_head**-0.5

    def waves(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """sin and cos of each position at each wavelength: [1|B, 1, T, pairs]."""
        index = float_positions(torch.arange(self.pairs, device=positions.device))
        angle = float_positions(positions)[:, None, :, None] * self.base ** (-index / self.pairs)
        return angle.sin().to(dtype), angle.cos().to(dtype)
