"""Plain references that the tests hold the model against: numbers, loops, and nothing of gptkit.

Everything is float64. Each function states one formula; none is written to be fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Allows = Callable[[int, int, int], bool]  # (row of the batch, query, key)


def softmax_attention(
    q: Array, k: Array, v: Array, allows: Allows, scale: float, bias: Array | None = None
) -> tuple[Array, Array]:
    """softmax(scale q k^T + bias, over allowed keys) v, one number at a time; rows without keys give 0.

    Args:
        q: [B, H, T, Dh]. k: [B, Hkv, S, Dh]. v: [B, Hkv, S, Dv]. bias: [H, T, S].

    Returns:
        The result [B, H, T, Dv] and the pattern [B, H, T, S].
    """
    (batch, heads, length, _), keys = q.shape, k.shape[2]
    share = heads // k.shape[1]
    out, pattern = np.zeros((*q.shape[:3], v.shape[-1])), np.zeros((batch, heads, length, keys))
    for b in range(batch):
        for h in range(heads):
            for i in range(length):
                scores = {
                    j: scale * math.fsum(q[b, h, i] * k[b, h // share, j])
                    + (0.0 if bias is None else bias[h, i, j])
                    for j in range(keys)
                    if allows(b, i, j)
                }
                if not scores:
                    continue
                top = max(scores.values())
                total = math.fsum(math.exp(score - top) for score in scores.values())
                for j, score in scores.items():
                    pattern[b, h, i, j] = math.exp(score - top) / total
                    out[b, h, i] += pattern[b, h, i, j] * v[b, h // share, j]
    return out, pattern


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """y_o = sum_i weight_oi x_i + bias_o; weight is [out, in]."""
    y = np.einsum("...i,oi->...o", x, weight)
    return y if bias is None else y + bias


def split_heads(x: Array, heads: int) -> Array:
    """[B, T, H * Dh] -> [B, H, T, Dh]: head h owns the h-th run of numbers."""
    width = x.shape[-1] // heads
    return np.stack([x[..., h * width : (h + 1) * width] for h in range(heads)], axis=1)


def grouped_query(
    x: Array, parts: Mapping[str, Array | None], heads: int, kv_heads: int, allows: Allows, scale: float
) -> Array:
    """Multi-head attention with shared keys and values: heads side by side, then one map."""
    width = parts["q"].shape[0] // heads
    q = split_heads(linear(x, parts["q"], parts["q_bias"]), heads)
    k = split_heads(linear(x, parts["k"], parts["k_bias"]), kv_heads)
    v = split_heads(linear(x, parts["v"], parts["v_bias"]), kv_heads)
    assert width == k.shape[-1]
    mixed, _ = softmax_attention(q, k, v, allows, scale)
    side_by_side = np.concatenate([mixed[:, h] for h in range(heads)], axis=-1)
    return linear(side_by_side, parts["out"], parts["out_bias"])


def layer_norm(x: Array, gain: Array, bias: Array | None, eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps), the variance without Bessel's correction."""
    y = np.empty_like(x)
    for index in np.ndindex(x.shape[:-1]):
        row = x[index]
        mean = math.fsum(row) / len(row)
        variance = math.fsum((number - mean) ** 2 for number in row) / len(row)
        y[index] = (row - mean) / math.sqrt(variance + eps) * gain
    return y if bias is None else y + bias


def _erf_gelu(x: float) -> float:
    return x * 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


def _tanh_gelu(x: float) -> float:
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "gelu": _erf_gelu,
    "gelu_tanh": _tanh_gelu,
    "relu": lambda x: max(x, 0.0),
    "relu_squared": lambda x: max(x, 0.0) ** 2,
    "silu": lambda x: x / (1.0 + math.exp(-x)),
    "sigmoid": lambda x: 1.0 / (1.0 + math.exp(-x)),
    "tanh": math.tanh,
    "identity": lambda x: x,
}


def mlp(
    x: Array, up: Array, up_bias: Array | None, down: Array, down_bias: Array | None, sigma: str
) -> Array:
    """sigma(x W1 + b1) W2 + b2."""
    return linear(np.vectorize(ACTIVATIONS[sigma])(linear(x, up, up_bias)), down, down_bias)


def sinusoidal(position: int, d_model: int, base: float = 10000.0) -> Array:
    """The explainer's e(pos)_j: sines at even j, cosines at odd j."""
    return np.array(
        [
            math.sin(position / base ** (j / d_model))
            if j % 2 == 0
            else math.cos(position / base ** ((j - 1) / d_model))
            for j in range(d_model)
        ]
    )


def cross_entropy(logits: Array, targets: list[int]) -> tuple[float, int]:
    """The sum of -log softmax(logits)[target] over the targets that count, and how many count."""
    total, counted = 0.0, 0
    for row, target in zip(logits, targets, strict=True):
        if target == -100:
            continue
        top = max(row)
        total += top + math.log(math.fsum(math.exp(score - top) for score in row)) - row[target]
        counted += 1
    return total, counted


@dataclass
class Weights:
    """A model's parameters by full name, as float64 arrays; absent ones are None."""

    numbers: dict[str, Array]

    def __call__(self, name: str) -> Array | None:
        return self.numbers.get(name)


def weights_of(model) -> Weights:
    return Weights({name: p.detach().double().numpy().copy() for name, p in model.named_parameters()})


def split_qkv(
    weights: Weights, prefix: str, heads: int, kv_heads: int, d_head: int
) -> dict[str, Array | None]:
    """The separate maps of a fused projection: rows of all query heads, then keys, then values."""
    parts: dict[str, Array | None] = {}
    first = 0
    for name, rows in (("q", heads * d_head), ("k", kv_heads * d_head), ("v", kv_heads * d_head)):
        for kind, suffix in (("weight", ""), ("bias", "_bias")):
            whole = weights(f"{prefix}.qkv.{kind}")
            parts[name + suffix] = None if whole is None else whole[first : first + rows]
        first += rows
    return {**parts, "out": weights(f"{prefix}.out.weight"), "out_bias": weights(f"{prefix}.out.bias")}


def gpt(
    weights: Weights,
    tokens: Array,
    *,
    layers: int,
    heads: int,
    kv_heads: int,
    block: str,
    activation: str,
    position: str,
    allows: Allows,
    shared_norm: bool = True,
    eps: float = 1e-5,
) -> Array:
    """A whole decoder from its parameters: logits [B, T, V]."""
    x = weights("embedding.weight")[tokens]
    length, width = tokens.shape[1], x.shape[-1]
    if position == "learned":
        x = x + weights("position.weight")[:length]
    elif position == "sinusoidal":
        x = x + np.stack([sinusoidal(i, width) for i in range(length)])

    def norm(name: str, y: Array) -> Array:
        gain = weights(f"{name}.weight")
        return y if gain is None else layer_norm(y, gain, weights(f"{name}.bias"), eps)

    for index in range(layers):
        at = f"blocks.{index}"
        fused = weights(f"{at}.attention.qkv.weight")
        d_head = fused.shape[0] // (heads + 2 * kv_heads)
        parts = split_qkv(weights, f"{at}.attention", heads, kv_heads, d_head)

        def attend(y: Array, parts=parts, d_head=d_head) -> Array:
            return grouped_query(y, parts, heads, kv_heads, allows, 1 / math.sqrt(d_head))

        def feed(y: Array, at=f"{at}.feed_forward") -> Array:
            if weights(f"{at}.up.weight") is None:
                return np.zeros_like(y)
            return mlp(
                y, weights(f"{at}.up.weight"), weights(f"{at}.up.bias"),
                weights(f"{at}.down.weight"), weights(f"{at}.down.bias"), activation,
            )  # fmt: skip

        absent = weights(f"{at}.feed_forward.up.weight") is None
        first, second = f"{at}.attention_norm", f"{at}.feed_forward_norm"
        if block == "pre":
            x = x + attend(norm(first, x))
            x = x if absent else x + feed(norm(second, x))
        elif block == "post":
            x = norm(first, x + attend(x))
            x = x if absent else norm(second, x + feed(x))
        else:
            x = x + attend(norm(first, x)) + feed(norm(first if shared_norm else second, x))
    x = norm("norm", x)
    table = weights("head.table")
    return linear(x, weights("embedding.weight") if table is None else table, weights("head.bias"))
