"""Which numbers a config may hold: finite ones, within their ranges, that fit one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from gptkit import settings
from gptkit.errors import Problem


def endless(value: Any, key: str = "") -> Iterator[Problem]:
    """Numbers that are none, or have no end."""
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from endless(entry, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            yield from endless(entry, f"{key}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(key, f"expected a finite number, got {value}.")


def unfit(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Numbers that do not fit one another, in a config without other faults."""
    known = {field.name for field in fields(settings.ModelSettings)}
    sizes = settings.ModelSettings(**{k: v for k, v in config.get("model", {}).items() if k in known})
    heads, width = sizes.n_heads, sizes.d_model
    if heads > 0 and sizes.d_head is None and width % heads:
        divisors = [n for n in range(1, width + 1) if width % n == 0]
        near = min(divisors, key=lambda n: abs(n - heads))
        yield Problem(
            "model.n_heads",
            f"d_model={width} cannot be split into {heads} heads.",
            f"Take n_heads={near}, or set model.d_head.",
        )
    kv_heads = sizes.n_kv_heads
    if kv_heads is not None and kv_heads > 0 and heads % kv_heads:
        choices = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
        yield Problem(
            "model.n_kv_heads",
            f"{heads} query heads cannot share {kv_heads} key heads.",
            f"Take one of {choices}.",
        )
    yield from _batches(config)


_AT_LEAST: dict[str, float] = {
    "devices": 1,
    "nodes": 1,
    "model.context_length": 1,
    "model.d_model": 1,
    "model.n_layers": 0,
    "model.n_heads": 1,
    "model.n_kv_heads": 1,
    "model.d_head": 1,
    "model.d_ff": 1,
    "model.vocab_size": 1,
    "data.batch_size": 1,
    "data.val_fold": 0,
    "trainer.max_steps": 0,
    "trainer.micro_batch_size": 1,
    "trainer.eval_every": 1,
    "trainer.eval_batches": 1,
    "trainer.log_every": 1,
    "trainer.checkpoint_every": 1,
    "trainer.keep_checkpoints": 1,
    "trainer.sample_every": 1,
    "trainer.sample_tokens": 0,
    "trainer.threads": 1,
    "trainer.tensor_parallel": 1,
}


def outside(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Numbers that are too small or too large by themselves; what is no finite number is told elsewhere."""
    for key, least in _AT_LEAST.items():
        value = _number(config, key)
        if value is not None and value < least:
            yield Problem(key, f"expected at least {least:g}, got {value}.")
    for key in ("model.dropout", "data.val_fraction"):
        value = _number(config, key)
        if value is not None and not 0 <= value < 1:
            yield Problem(key, f"expected a number from 0 up to but not 1, got {value}.")
    clip = _number(config, "trainer.gradient_clip")
    if clip is not None and clip <= 0:
        yield Problem(
            "trainer.gradient_clip", f"expected a number above 0, got {clip}.", "null does not clip."
        )
    seed = _number(config, "seed")
    if isinstance(seed, int) and not -(2**63) <= seed < 2**63:
        yield Problem("seed", f"expected a number of 64 bits, got {seed}.")


def _number(config: Mapping[str, Any], key: str) -> float | None:
    """The finite number at a key; None where there is none."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _batches(config: Mapping[str, Any]) -> Iterator[Problem]:
    batch = config.get("data", {}).get("batch_size")
    micro = config.get("trainer", {}).get("micro_batch_size")
    devices = config.get("devices", 1)
    world = (devices if isinstance(devices, int) else 1) * config.get("nodes", 1)
    world //= config.get("trainer", {}).get("tensor_parallel", 1) or 1
    if batch and world > 0 and batch % (world * (micro or 1)):
        share = f"{world} device(s)" + (f" x micro_batch_size={micro}" if micro else "")
        unit = world * (micro or 1)
        yield Problem(
            "data.batch_size",
            f"{batch} examples cannot be shared evenly by {share}.",
            f"Take a multiple of {unit}, such as {max(1, round(batch / unit)) * unit}.",
        )
