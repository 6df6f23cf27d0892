"""Which experts a token goes to, with which weights, and how they are kept equally busy."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptkit.model.kernels import exact

Score = Literal["softmax", "sigmoid", "softmax_of_chosen"]
Balance = Literal["penalty", "bias", "none"]


class Router(nn.Module):
    """Scores the experts for each token and takes the best.

    Args:
        d_model, experts, active: sizes.
        score: what the logits become before the best are taken.
        renormalise: whether the weights of those taken sum to one.
        factor: on the weights.
        groups, active_groups: experts stand in groups, of which the best are looked at.
        bias: whether the logits have a bias.
        balance: how experts are kept equally busy.
        balance_rate: weight of the penalty, or the step of the bias.
        z_penalty: weight of the penalty on large logits.
    """

    preference: Tensor  # of each expert, added to its score where the best are chosen

    def __init__(
        self,
        d_model: int,
        experts: int,
        active: int,
        *,
        score: Score,
        renormalise: bool,
        factor: float,
        groups: int,
        active_groups: int,
        bias: bool,
        balance: Balance,
        balance_rate: float,
        z_penalty: float,
    ) -> None:
        super().__init__()
        self.experts, self.active, self.score = experts, active, score
        self.renormalise, self.factor = renormalise, factor
        self.groups, self.active_groups = groups, active_groups
        self.balance, self.balance_rate, self.z_penalty = balance, balance_rate, z_penalty
        self.map = nn.Linear(d_model, experts, bias=bias)
        if balance == "bias":
            self.register_buffer("preference", torch.zeros(experts))
        self._penalty: Tensor | None = None
        self._load: Tensor | None = None  # tokens that each expert was given since the last update

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, D] -> the experts taken and their weights, both [N, active]."""
        logits = self.map(x)
        logits = logits.to(exact(logits.dtype))
        if self.score == "sigmoid":
            scores = logits.sigmoid()
        else:
            scores = logits.softmax(-1) if self.score == "softmax" else logits
        chosen = self.choose(scores)
        weights = scores.gather(-1, chosen)
        if self.score == "softmax_of_chosen":
            weights = weights.softmax(-1)
        elif self.renormalise:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        if self.training:
            self._remember(logits, scores, chosen)
        return chosen, (weights * self.factor).to(x.dtype)

    def choose(self, scores: Tensor) -> Tensor:
        """The best experts by score and preference, within the best groups: [N, E] -> [N, active]."""
        with torch.no_grad():
            if self.balance == "bias":
                scores = scores + self.preference.to(scores.dtype)
            if self.active_groups < self.groups:
                grouped = scores.unflatten(-1, (self.groups, -1))  # [N, groups, E / groups]
                best = grouped.topk(min(2, grouped.shape[-1]), dim=-1).values.sum(-1)
                open_groups = torch.zeros_like(best, dtype=torch.bool)
                open_groups.scatter_(-1, best.topk(self.active_groups, dim=-1).indices, True)
                scores = grouped.masked_fill(~open_groups.unsqueeze(-1), float("-inf")).flatten(-2)
            return scores.topk(self.active, dim=-1).indices

    def _remember(self, logits: Tensor, scores: Tensor, chosen: Tensor) -> None:
        """Note what the penalty is made of and how busy each expert was."""
        load = F.one_hot(chosen, self.experts).sum((0, 1)).to(logits.dtype)
        penalty = logits.new_zeros(())
        if self.balance == "penalty":
            shares = logits.softmax(-1) if self.score == "softmax_of_chosen" else scores
            shares = shares / shares.sum(-1, keepdim=True)
            penalty = self.balance_rate * self.experts * (load / load.sum() * shares.mean(0)).sum()
        if self.z_penalty:
            penalty = penalty + self.z_penalty * logits.logsumexp(-1).square().mean()
        self._penalty = penalty if penalty.requires_grad else None
        self._load = load if self._load is None else self._load + load

    def take_penalty(self) -> Tensor | None:
        """The penalty of the last pass: least where all experts are equally busy."""
        penalty, self._penalty = self._penalty, None
        return penalty

    @torch.no_grad()
    def after_update(self) -> None:
        """Prefer the experts that had less than the mean a little more, the others less."""
        load, self._load = self._load, None
        if self.balance != "bias" or load is None:
            return
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(load)
        self.preference.add_(self.balance_rate * torch.sign(load.mean() - load).to(self.preference.dtype))
