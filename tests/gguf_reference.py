"""What a GGUF file alone computes, by llama.cpp's conventions, in 64 bits; knows nothing of gptkit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")

Array = np.ndarray
HALVES = {
    "qwen2", "qwen3", "qwen3moe", "gptneox", "falcon", "stablelm", "phi3", "olmo2", "gemma2", "gemma3", "gpt-oss",
}  # fmt: skip
GELU = {"gpt2", "gptneox", "falcon", "gemma2", "gemma3", "bloom", "mpt"}
UNTURNED = {"gpt2", "bloom", "mpt"}
WINDOWS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2}  # one layer in so many has none


def softmax(x: Array) -> Array:
    """Over the last axis."""
    made = np.exp(x - x.max(-1, keepdims=True))
    return made / made.sum(-1, keepdims=True)


def sigmoid(x: Array) -> Array:
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def slopes(heads: int, bound: float) -> Array:
    """ALiBi's slope of each head, as ggml finds it; zeros for a bound of zero."""
    power = 2 ** int(np.floor(np.log2(heads)))
    at = np.arange(heads)
    small = 2.0 ** (-bound / power * (at + 1))
    made = np.where(at < power, small, 2.0 ** (-bound / 2 / power * (2 * (at - power) + 1)))
    return made if bound else np.zeros(heads)


class File:
    """A GGUF file's keys without the architecture's name before them, and its tensors in 64 bits."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        keys = {name: field.contents() for name, field in reader.fields.items()}
        self.arch = keys["general.architecture"]
        self.keys: dict[str, Any] = {
            name.removeprefix(f"{self.arch}."): value for name, value in keys.items()
        }
        self.types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
        self.tensors = {
            tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            .reshape(tuple(int(n) for n in tensor.shape[::-1]))
            .astype(np.float64)
            for tensor in reader.tensors
        }

    def norm(self, x: Array, name: str) -> Array:
        """Root mean square or layer norm, as the keys tell."""
        gain, rms = self.tensors[f"{name}.weight"], self.keys.get("attention.layer_norm_rms_epsilon")
        if rms is not None:
            return x / np.sqrt((x**2).mean(-1, keepdims=True) + rms) * gain
        eps, middle = self.keys["attention.layer_norm_epsilon"], x.mean(-1, keepdims=True)
        spread = np.sqrt(((x - middle) ** 2).mean(-1, keepdims=True) + eps)
        return (x - middle) / spread * gain + self.tensors.get(f"{name}.bias", 0.0)

    def map(self, x: Array, name: str) -> Array:
        """A linear map and its bias if it has one."""
        return x @ self.tensors[f"{name}.weight"].T + self.tensors.get(f"{name}.bias", 0.0)

    def angles(self, count: int, slides: bool) -> tuple[Array, Array]:
        """Cosines and sines [T, turning / 2]."""
        turning, keys = self.keys["rope.dimension_count"], self.keys
        base = keys.get("rope.freq_base_swa" if slides else "rope.freq_base", keys["rope.freq_base"])
        at, size = np.arange(0, turning, 2), 1.0
        speed = base ** (-at / turning) / self.tensors.get("rope_freqs.weight", 1.0)
        factor = keys.get("rope.scaling.factor", 1.0)
        kind = keys.get("rope.scaling.type", "linear") if self.arch != "gemma3" or not slides else "none"
        if kind == "linear":
            speed = speed / factor
        if kind == "yarn":
            context = keys["rope.scaling.original_context_length"]
            turns = [turning * np.log(context / (n * 2 * np.pi)) / (2 * np.log(base)) for n in (32.0, 1.0)]
            low, high = max(0.0, np.floor(turns[0])), min(turning - 1.0, np.ceil(turns[1]))
            mix = 1 - np.clip((at / 2 - low) / max(0.001, high - low), 0, 1)
            speed = speed / factor * (1 - mix) + speed * mix
            size = 1.0 if self.arch == "deepseek2" else 0.1 * np.log(factor) + 1
        angle = np.arange(count)[:, None] * speed
        return np.cos(angle) * size, np.sin(angle) * size

    def turned(self, x: Array, slides: bool) -> Array:
        """Rotary positions on [T, H, D]: neighbouring pairs for llama, halves for the others."""
        if self.arch in UNTURNED:
            return x
        cos, sin = (table[:, None] for table in self.angles(len(x), slides))
        turning, made = 2 * cos.shape[-1], x.copy()
        half = turning // 2
        first, second = (
            (slice(0, half), slice(half, turning))
            if self.arch in HALVES
            else (slice(0, turning, 2), slice(1, turning, 2))
        )
        made[..., first] = x[..., first] * cos - x[..., second] * sin
        made[..., second] = x[..., first] * sin + x[..., second] * cos
        return made

    def attention(self, x: Array, layer: int) -> Array:
        """One layer's attention, its norms of queries and keys among it."""
        name, keys = f"blk.{layer}", self.keys
        heads, kv_heads = keys["attention.head_count"], keys["attention.head_count_kv"]
        width, count = keys["attention.key_length"], len(x)
        if f"{name}.attn_qkv.weight" in self.tensors:
            q, k, v = np.split(
                self.map(x, f"{name}.attn_qkv"), [heads * width, (heads + kv_heads) * width], axis=-1
            )
        else:
            q, k, v = (self.map(x, f"{name}.attn_{part}") for part in "qkv")
        whole = self.arch == "olmo2"
        shapes = [(count, heads, width), (count, kv_heads, width)]
        normed: Callable[[Array, str], Array] = (
            self.norm if f"{name}.attn_q_norm.weight" in self.tensors else lambda part, _: part
        )
        if whole:
            q, k = normed(q, f"{name}.attn_q_norm"), normed(k, f"{name}.attn_k_norm")
        q, k, v = q.reshape(shapes[0]), k.reshape(shapes[1]), v.reshape(shapes[1])
        if not whole:
            q, k = normed(q, f"{name}.attn_q_norm"), normed(k, f"{name}.attn_k_norm")
        every = WINDOWS.get(self.arch, 0) if keys.get("attention.sliding_window") else 0
        slides = bool(every) and (layer + 1) % every != 0
        if self.arch != "smollm3" or (layer + 1) % 4 != 0:
            q, k = self.turned(q, slides), self.turned(k, slides)
        k, v = (np.repeat(part, heads // kv_heads, axis=1) for part in (k, v))
        return self.map(
            self.mixed(q, k, v, width**-0.5, slides, f"{name}.attn_sinks.weight"), f"{name}.attn_output"
        )

    def mixed(self, q: Array, k: Array, v: Array, scale: float, slides: bool, sinks: str = "") -> Array:
        """Values of all heads side by side, by the scores of queries [T, H, D] with keys."""
        count, keys = len(q), self.keys
        scores = np.einsum("qhd,khd->hqk", q, k) * scale
        if cap := keys.get("attn_logit_softcapping"):
            scores = cap * np.tanh(scores / cap)
        far = np.arange(count)[:, None] - np.arange(count)
        bound = 8.0 if self.arch == "bloom" else keys.get("attention.max_alibi_bias", 0.0)
        scores = scores - slopes(q.shape[1], bound)[:, None, None] * far
        hidden = (far < 0) | (far >= keys["attention.sliding_window"] if slides else False)
        scores = np.where(hidden, -np.inf, scores)
        if sinks in self.tensors:  # one more key for each head, which has no value
            sink = np.broadcast_to(self.tensors[sinks][:, None, None], (*scores.shape[:2], 1))
            weights = softmax(np.concatenate([scores, sink], axis=-1))[..., :-1]
        else:
            weights = softmax(scores)
        return np.einsum("hqk,khd->qhd", weights, v).reshape(count, -1)

    def latent_attention(self, x: Array, layer: int) -> Array:
        """Attention to short vectors, from which each head's keys and values are not made one by one."""
        name, keys, count = f"blk.{layer}", self.keys, len(x)
        rank, placed, whole = (
            keys["attention.kv_lora_rank"],
            keys["rope.dimension_count"],
            keys["attention.key_length_mla"],
        )
        if keys["attention.q_lora_rank"]:
            q = self.map(
                self.norm(self.map(x, f"{name}.attn_q_a"), f"{name}.attn_q_a_norm"), f"{name}.attn_q_b"
            )
        else:
            q = self.map(x, f"{name}.attn_q")
        q = q.reshape(count, keys["attention.head_count"], whole)
        both = self.map(x, f"{name}.attn_kv_a_mqa")
        short, key = (
            self.norm(both[:, :rank], f"{name}.attn_kv_a_norm"),
            self.turned(both[:, None, rank:], False),
        )
        content = np.einsum("qhn,hrn->qhr", q[..., : whole - placed], self.tensors[f"{name}.attn_k_b.weight"])
        q = np.concatenate([content, self.turned(q[..., whole - placed :], False)], axis=-1)
        k = np.broadcast_to(np.concatenate([short[:, None], key], axis=-1), q.shape)
        values = np.einsum("kr,hvr->khv", short, self.tensors[f"{name}.attn_v_b.weight"])
        sharper = 1 + keys.get("rope.scaling.yarn_log_multiplier", 0.0) * np.log(
            keys.get("rope.scaling.factor", 1.0)
        )
        return self.map(self.mixed(q, k, values, whole**-0.5 * sharper**2, False), f"{name}.attn_output")

    def experts(self, x: Array, layer: int) -> Array:
        """The experts that each token is sent to, and those that all tokens meet."""
        name, keys, oss = f"blk.{layer}", self.keys, self.arch == "gpt-oss"
        logits, active = self.map(x, f"{name}.ffn_gate_inp"), keys["expert_used_count"]
        latent = self.arch == "deepseek2"
        scores = sigmoid(logits) if latent else logits if oss else softmax(logits)
        wanted = scores + self.tensors.get(f"{name}.exp_probs_b.bias", 0.0)
        groups = keys.get("expert_group_count", 1)
        if groups > 1:
            grouped = wanted.reshape(len(x), groups, -1)
            best = (
                np.sort(grouped, axis=-1)[..., -2:]
                .sum(-1)
                .argsort(-1)[:, : groups - keys["expert_group_used_count"]]
            )
            np.put_along_axis(grouped, best[..., None], -np.inf, axis=1)
            wanted = grouped.reshape(len(x), -1)
        chosen = wanted.argsort(-1)[:, -active:]
        weights = np.take_along_axis(scores, chosen, axis=-1)
        if oss:
            weights = softmax(weights)
        elif not latent or keys["expert_weights_norm"]:
            weights = weights / weights.sum(-1, keepdims=True)
        weights = weights * keys.get("expert_weights_scale", 1.0)

        def mapped(h: Array, part: str, which: Array) -> Array:
            made = np.einsum("tf,tof->to", h, self.tensors[f"{name}.ffn_{part}_exps.weight"][which])
            bias = self.tensors.get(f"{name}.ffn_{part}_exps.bias")
            return made if bias is None else made + bias[which]

        total = np.zeros_like(x)
        for at in range(active):
            which = chosen[:, at]
            gate, up = mapped(x, "gate", which), mapped(x, "up", which)
            if oss:
                gate = np.minimum(gate, 7.0)
                inner = gate * sigmoid(1.702 * gate) * (np.clip(up, -7.0, 7.0) + 1)
            else:
                inner = gate * sigmoid(gate) * up
            total += weights[:, at, None] * mapped(inner, "down", which)
        if latent:
            gate, up = self.map(x, f"{name}.ffn_gate_shexp"), self.map(x, f"{name}.ffn_up_shexp")
            total += self.map(gate * sigmoid(gate) * up, f"{name}.ffn_down_shexp")
        return total

    def network(self, x: Array, layer: int) -> Array:
        """One layer's feed-forward network."""
        name, gelu = f"blk.{layer}", self.arch in GELU
        if f"{name}.ffn_gate_inp.weight" in self.tensors:
            return self.experts(x, layer)
        up = self.map(x, f"{name}.ffn_up")
        if self.arch == "phi3":
            gate, up = np.split(up, 2, axis=-1)
        else:
            gate = self.map(x, f"{name}.ffn_gate") if f"{name}.ffn_gate.weight" in self.tensors else up
        plain = gate is up
        tanh = np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))
        gate = 0.5 * gate * (1 + tanh) if gelu else gate * sigmoid(gate)
        return self.map(gate if plain else gate * up, f"{name}.ffn_down")

    def block(self, x: Array, layer: int) -> Array:
        """One layer."""
        name = f"blk.{layer}"
        has = {
            part: f"{name}.{part}.weight" in self.tensors for part in ("attn_norm", "attn_norm_2", "ffn_norm")
        }
        after = f"{name}.post_attention_norm.weight" in self.tensors and self.arch != "gpt-oss"
        before = self.norm(x, f"{name}.attn_norm") if has["attn_norm"] else x
        attention = self.latent_attention if self.arch == "deepseek2" else self.attention
        heard = attention(self.norm(x, f"{name}.attn_norm_2") if has["attn_norm_2"] else before, layer)
        heard = self.norm(heard, f"{name}.post_attention_norm") if after else heard
        if self.arch == "falcon" or (self.arch == "stablelm" and not has["ffn_norm"]):
            return x + heard + self.network(before, layer)
        if self.arch == "gptneox" and self.keys["use_parallel_residual"]:
            return x + heard + self.network(self.norm(x, f"{name}.ffn_norm"), layer)
        x = x + heard
        if self.arch == "gpt-oss":  # where the norm before the network has the name of one after attention
            return x + self.network(self.norm(x, f"{name}.post_attention_norm"), layer)
        made = self.network(self.norm(x, f"{name}.ffn_norm") if has["ffn_norm"] else x, layer)
        return x + (self.norm(made, f"{name}.post_ffw_norm") if after else made)

    def logits(self, tokens: Array) -> Array:
        """Logits [T, V]."""
        table = self.tensors["token_embd.weight"]
        x = table[tokens]
        if "position_embd.weight" in self.tensors:
            x = x + self.tensors["position_embd.weight"][: len(tokens)]
        if self.arch.startswith("gemma"):
            x = x * np.sqrt(self.keys["embedding_length"])
        if "token_embd_norm.weight" in self.tensors:
            x = self.norm(x, "token_embd_norm")
        for layer in range(self.keys["block_count"]):
            x = self.block(x, layer)
        made = self.norm(x, "output_norm") @ self.tensors.get("output.weight", table).T
        cap = self.keys.get("final_logit_softcapping")
        return cap * np.tanh(made / cap) if cap else made
