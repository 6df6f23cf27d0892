"""What Gemma 2 and 3 have alike: norms around each sublayer with gains 1 + w, scaled embeddings, windows by layer."""

from __future__ import annotations

from typing import Any

from gptkit.errors import UserError
from gptkit.interop.families import _llama
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout

NORMS = {
    "attention_norm": "input_layernorm",
    "attention_result_norm": "post_attention_layernorm",
    "feed_forward_norm": "pre_feedforward_layernorm",
    "feed_forward_result_norm": "post_feedforward_layernorm",
}


def read(fields: Fields, attention: dict[str, Any], eps: float) -> dict[str, Any]:
    """The section, without windows.

    Args:
        fields: those of the family's own were taken already.
        attention: the part, its scale, bias and dropout left out.
        eps: of every norm.
    """
    scale = fields.number("query_pre_attn_scalar", 256, divides=True) ** -0.5
    fields.take("hidden_act", None)  # hidden_activation alone rules
    fields.only("use_bidirectional_attention", None, False)
    cap = cap_of(fields, "final_logit_softcapping")
    attention = {**attention, "scale": scale, "bias": bool(fields.take("attention_bias", False))}
    norm = {"name": "rms", "eps": eps, "offset": 1.0}
    section = _llama.read(
        fields, attention=attention, norm=norm, block="sandwich", activation="hidden_activation", tied=True
    )
    head = {"name": "soft_capped", "cap": cap} if cap else {"name": "language_model"}
    return {
        **section, "embedding": {"name": "scaled", "dropout": 0.0},
        "head": {**head, "tied": section["head"]["tied"]},
    }  # fmt: skip


def cap_of(fields: Fields, name: str) -> float | None:
    """A soft cap, or None where there is none; by one of 0 transformers would divide."""
    return None if fields.take(name, None) is None else float(fields.number(name, 1.0, divides=True))


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section, without windows."""
    config, head = _llama.write(section), section["head"]
    if section["attention"].get("scale") is None:
        raise UserError("its attention has no scale of its own, which Gemma's config tells")
    activation, scalar = config.pop("hidden_act"), round(section["attention"]["scale"] ** -2, 6)
    return {
        **config, "hidden_activation": activation, "rms_norm_eps": section["norm"]["eps"],
        "query_pre_attn_scalar": int(scalar) if scalar == int(scalar) else scalar,
        "attention_bias": section["attention"]["bias"],
        "final_logit_softcapping": head["cap"] if head["name"] == "soft_capped" else None,
    }  # fmt: skip


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""
    return _llama.layouts(section, norms=NORMS)


def types(slides: list[bool]) -> list[str]:
    """`layer_types` of layers that slide or do not."""
    return ["sliding_attention" if slid else "full_attention" for slid in slides]
