"""A feed-forward network in many parts, of which each token meets a few."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from gptkit.errors import UserError, check_options
from gptkit.model.interfaces import FeedForward, ModelShape, mark
from gptkit.model.options import count_rule
from gptkit.registry import register
from gptkit_mixture_of_experts.experts import ACTIVATIONS, Activation, Experts
from gptkit_mixture_of_experts.router import Router


@register("model.feed_forward", "mixture_of_experts")
class MixtureOfExperts(FeedForward):
    """y = sum over the k best experts of g_e(x) E_e(x), and a shared network (Shazeer et al. 2017).

    A router, one linear map, scores the experts; each expert is a gated network. No token is dropped
    and none waits: experts take as many as they are given. Without a balance a few experts would get
    all tokens, so either the loss is raised where loads differ, by E * sum_e f_e P_e with f_e the share
    of the tokens and P_e the mean score (Fedus et al. 2021), or experts that got less than the mean are
    preferred a little more after each update, which bends no gradient (Wang et al. 2024; DeepSeek-V3).

    Args:
        n_experts: how many there are.
        n_active: k, how many each token meets.
        d_expert: width of an expert; null takes d_ff / n_active.
        d_shared: width of a network that every token meets as well (DeepSeekMoE: Dai et al. 2024).
        shared_gate: whether a sigmoid of x decides how much of it counts (Qwen 2 MoE).
        activation: of an expert; clamped_swiglu is g sigmoid(1.702 g) (u + 1), where g is at most 7 and u
            within 7 of 0 (gpt-oss).
        bias: whether the experts' maps have biases.
        score: softmax over all experts, sigmoid of each (DeepSeek-V3), or softmax over those taken.
        renormalise: whether the weights of the experts taken sum to 1.
        factor: on the experts' sum.
        groups: experts stand in so many groups; a token looks at the best of them.
        active_groups: how many of the groups it looks at.
        router_bias: whether the router's map has a bias.
        balance: penalty on the loss, bias on the choice, or none.
        balance_rate: weight of the penalty, or step of the bias; null takes 0.01 and 0.001.
        z_penalty: weight of the mean squared log-sum-exp of the router's logits (Zoph et al. 2022).

    Raises:
        UserError: sizes that do not go together.
    """

    expected_failures: ClassVar = {"compiles": "how many tokens an expert gets is known only when it runs"}

    def __init__(
        self,
        shape: ModelShape,
        *,
        n_experts: int = 8,
        n_active: int = 2,
        d_expert: int | None = None,
        d_shared: int = 0,
        shared_gate: bool = False,
        activation: Literal["swiglu", "geglu", "reglu", "clamped_swiglu"] = "swiglu",
        bias: bool = False,
        score: Literal["softmax", "sigmoid", "softmax_of_chosen"] = "softmax",
        renormalise: bool = True,
        factor: float = 1.0,
        groups: int = 1,
        active_groups: int = 1,
        router_bias: bool = False,
        balance: Literal["penalty", "bias", "none"] = "penalty",
        balance_rate: float | None = None,
        z_penalty: float = 0.0,
    ) -> None:
        super().__init__()
        _check(n_experts, n_active, groups, active_groups, d_shared)
        check_options(
            "model.feed_forward",
            count_rule("d_expert", d_expert),
            ("factor", factor, "a number above 0", factor > 0),
            ("balance_rate", balance_rate, "a number of at least 0, or null", (balance_rate or 0) >= 0),
            ("z_penalty", z_penalty, "a number of at least 0", z_penalty >= 0),
        )
        if balance_rate is None:
            balance_rate = 0.001 if balance == "bias" else 0.01
        width = d_expert or max(1, shape.d_ff // n_active)
        act = ACTIVATIONS[activation]
        self.n_active, self.d_model, self.width, self.d_shared = n_active, shape.d_model, width, d_shared
        self.router = Router(
            shape.d_model, n_experts, n_active, score=score, renormalise=renormalise, factor=factor,
            groups=groups, active_groups=active_groups, bias=router_bias,
            balance=balance, balance_rate=balance_rate, z_penalty=z_penalty,
        )  # fmt: skip
        self.experts = Experts(n_experts, shape.d_model, width, act, bias)
        self.shared = Shared(shape.d_model, d_shared, act, bias, shared_gate) if d_shared else None

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])  # [N, D]
        chosen, weights = self.router(flat)  # [N, k]
        expert = chosen.flatten()
        order = expert.argsort(stable=True)  # the first expert's tokens first
        counts = torch.bincount(expert, minlength=self.router.experts)
        out = self.experts(flat[order // self.n_active], counts)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=order.device))
        y = (out[back].view(-1, self.n_active, x.shape[-1]) * weights.unsqueeze(-1)).sum(1)
        if self.shared is not None:
            y = y + self.shared(flat)
        return y.view_as(x)

    def flops(self, keys: int) -> float:
        """Operations for one token: the router, the experts that it meets, and the shared network."""
        met = self.n_active * self.width + self.d_shared
        return 2.0 * self.d_model * (self.router.experts + 3 * met)


class Shared(nn.Module):
    """The network that every token meets."""

    def __init__(self, d_model: int, width: int, activation: Activation, bias: bool, gated: bool) -> None:
        super().__init__()
        self.activation = activation
        self.gate_up = nn.Linear(d_model, 2 * width, bias=bias)
        self.down = mark(nn.Linear(width, d_model, bias=bias), "residual")
        self.gate = nn.Linear(d_model, 1, bias=False) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(self.activation(*self.gate_up(x).chunk(2, dim=-1)))
        return y if self.gate is None else y * self.gate(x).sigmoid()


def _check(n_experts: int, n_active: int, groups: int, active_groups: int, d_shared: int) -> None:
    told = "mixture_of_experts: "
    if not 1 <= n_active <= n_experts:
        raise UserError(f"{told}n_active={n_active} of n_experts={n_experts}; take from 1 to {n_experts}.")
    if groups < 1 or n_experts % groups or not 1 <= active_groups <= groups:
        raise UserError(
            f"{told}groups={groups}, active_groups={active_groups}; {n_experts} experts stand in groups of "
            "one size, and at least one group is looked at."
        )
    if n_active > n_experts // groups * active_groups:
        raise UserError(
            f"{told}n_active={n_active}, but {active_groups} groups hold only "
            f"{n_experts // groups * active_groups} experts. Raise active_groups, or lower n_active."
        )
    if d_shared < 0:
        raise UserError(f"{told}d_shared={d_shared} is a width; take 0 for none, or more.")
