"""What Llama's descendants have alike: RMSNorm before each sublayer, gated networks, rotary positions, grouped heads.

A family says only what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gptkit.interop.families._shared import linear_layouts, norm_layouts, rope_parameters, rotary
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout, Same, Stacked

Parts = Callable[[dict[str, Any], str, str], dict[str, Layout]]  # of a layer, under our name and theirs
IGNORED = (".rotary_emb.inv_freq",)
GATED = {"silu": "swiglu", "swish": "swiglu", "gelu_pytorch_tanh": "geglu", "relu": "reglu"}
THEIR_GATED = {"swiglu": "silu", "geglu": "gelu_pytorch_tanh", "reglu": "relu"}


def read(
    fields: Fields,
    *,
    attention: Mapping[str, Any],
    norm: Mapping[str, Any] | None = None,
    block: str = "pre",
    mlp_bias: bool = False,
    fraction: float | None = None,
    activation: str = "hidden_act",
    tied: bool = False,
) -> dict[str, Any]:
    """A section of the fields that all of them have.

    Args:
        fields: those of the family's own were taken already.
        attention: the attention part, its dropout left out.
        norm: the norm part; RMSNorm if left out.
        block: where norms stand.
        mlp_bias: whether the network's maps have biases.
        fraction: of a head that turns, where the file is silent; left out in families whose heads turn whole.
        activation: the field that tells it.
        tied: whether the head is the embedding's table, where the file is silent.
    """
    heads, width = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    context = fields.whole("max_position_embeddings", 2048)
    shared, kind = fields.whole_or("num_key_value_heads", heads), fields.take(activation, "silu")
    if heads % shared:
        fields.problems.append(f"num_key_value_heads={shared!r}: {heads} heads cannot share them")
    if kind not in GATED:
        fields.refuse(activation, f"known are {', '.join(GATED)}")
    return {
        "context_length": context, "d_model": width, "n_layers": fields.whole("num_hidden_layers"), "n_heads": heads,
        "n_kv_heads": shared,
        "d_head": fields.whole_or("head_dim", max(1, width // heads)),
        "d_ff": fields.whole("intermediate_size"), "vocab_size": fields.whole("vocab_size"),
        "embedding": {"name": "token", "dropout": 0.0},
        "position": rotary(fields, fraction=fraction, context=context),
        "attention": {**attention, "dropout": fields.number("attention_dropout", 0.0)},
        "feed_forward": {"name": GATED.get(kind, "swiglu"), "bias": mlp_bias},
        "norm": dict(norm or {"name": "rms", "eps": fields.number("rms_norm_eps", 1e-6)}),
        "block": {"name": block, "dropout": 0.0},
        "head": {"name": "language_model", "tied": bool(fields.take("tie_word_embeddings", tied))},
    }  # fmt: skip


def write(section: dict[str, Any], *, fraction: bool = False, head_dim: bool = True) -> dict[str, Any]:
    """The fields that all of them have.

    Args:
        section: written out.
        fraction: name the part of a head that turns even where it is the whole.
        head_dim: the family has heads of any width.
    """
    rope = rope_parameters(section["position"], section["context_length"])
    if fraction:
        rope["partial_rotary_factor"] = section["position"]["fraction"]
    return {
        "hidden_size": section["d_model"], "num_hidden_layers": section["n_layers"],
        "num_attention_heads": section["n_heads"], "num_key_value_heads": section["n_kv_heads"],
        **({"head_dim": section["d_head"]} if head_dim else {}),
        "intermediate_size": section["d_ff"], "vocab_size": section["vocab_size"],
        "max_position_embeddings": section["context_length"],
        "hidden_act": THEIR_GATED[section["feed_forward"]["name"]],
        "attention_dropout": section["attention"]["dropout"], "tie_word_embeddings": section["head"]["tied"],
        "rope_parameters": rope, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip


def windowed(section: dict[str, Any], window: Any, slides: Sequence[bool]) -> dict[str, Any]:
    """The same with a sliding window in these layers: in the model's own mask if in all of them."""
    if not window or not any(slides):
        return section
    mask = {"causal": {}, "sliding_window": {"window": window}}
    if all(slides):
        return {**section, "mask": mask}
    return {**section, "layers": {str(i): {"mask": mask} for i, slid in enumerate(slides) if slid}}


def types_of(fields: Fields, silent: Sequence[bool]) -> list[bool]:
    """Which layers slide, by `layer_types`, or as said where the file is silent."""
    types = fields.take("layer_types", None)
    if types is None:
        return list(silent)
    strange = {str(kind) for kind in types} - {"full_attention", "sliding_attention"}
    if strange or len(types) != len(silent):
        fields.refuse(
            "layer_types", "only full_attention and sliding_attention, one for each layer, can be held"
        )
    return [kind == "sliding_attention" for kind in types]


def window_of(section: dict[str, Any]) -> tuple[int | None, list[bool]]:
    """The window and which layers have it."""
    count, own = section["n_layers"], section["mask"]
    if "sliding_window" in own:
        return own["sliding_window"]["window"], [True] * count
    found = {
        int(i): c["mask"]["sliding_window"]["window"] for i, c in section["layers"].items() if "mask" in c
    }
    return next(iter(found.values()), None), [i in found for i in range(count)]


def layouts(
    section: dict[str, Any],
    *,
    fused: bool = False,
    norms: Mapping[str, str] | None = None,
    norm_bias: bool = False,
    attention: Parts | None = None,
    network: Parts | None = None,
) -> dict[str, Layout]:
    """Where each weight is kept.

    Args:
        section: written out.
        fused: they keep q, k and v in one map, and the gate beside the other.
        norms: our name of each norm in a block: theirs.
        norm_bias: whether norms have biases.
        attention: another layout of a layer's attention.
        network: another layout of a layer's feed-forward network.
    """
    norms = norms or {"attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}
    found: dict[str, Layout] = {"embedding.weight": Same("model.embed_tokens.weight")}
    for i in range(section["n_layers"]):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        part = {**section, **section["layers"].get(str(i), {})}
        if attention is None:
            found |= attention_layouts(part, f"{ours}.attention", f"{theirs}.self_attn", fused=fused)
        else:
            found |= attention(part, f"{ours}.attention", f"{theirs}.self_attn")
        if network is None:
            found |= network_layouts(part, f"{ours}.feed_forward", f"{theirs}.mlp", fused=fused)
        else:
            found |= network(part, f"{ours}.feed_forward", f"{theirs}.mlp")
        for mine, name in norms.items():
            found |= norm_layouts(f"{ours}.{mine}", f"{theirs}.{name}", bias=norm_bias)
    found |= norm_layouts("norm", "model.norm", bias=norm_bias)
    if not section["head"]["tied"]:
        found["head.table"] = Same("lm_head.weight")
    return found


def attention_layouts(
    part: dict[str, Any], ours: str, theirs: str, *, fused: bool = False
) -> dict[str, Layout]:
    """One layer's q, k and v in one map, the map back, and norms of q and k if it has them."""
    attention, width = part["attention"], part["d_head"]
    rows = (part["n_heads"] * width, part["n_kv_heads"] * width, part["n_kv_heads"] * width)
    found: dict[str, Layout] = {}
    for kind in ("weight", "bias")[: 1 + attention["bias"]]:
        parts = tuple(f"{theirs}.{part}_proj.{kind}" for part in "qkv")
        found[f"{ours}.qkv.{kind}"] = Same(f"{theirs}.qkv_proj.{kind}") if fused else Stacked(parts, rows)
    out_bias = attention["bias"] if attention.get("out_bias") is None else attention["out_bias"]
    found |= linear_layouts(f"{ours}.out", f"{theirs}.o_proj", bias=out_bias)
    if attention["name"] == "qk_norm":
        for part_name in "qk":
            found |= norm_layouts(f"{ours}.{part_name}_norm", f"{theirs}.{part_name}_norm", bias=False)
    return found


def network_layouts(
    part: dict[str, Any], ours: str, theirs: str, *, fused: bool = False
) -> dict[str, Layout]:
    """One layer's gated network."""
    bias, found = part["feed_forward"]["bias"], {}
    for kind in ("weight", "bias")[: 1 + bias]:
        found[f"{ours}.gate_up.{kind}"] = (
            Same(f"{theirs}.gate_up_proj.{kind}")
            if fused
            else Stacked(
                tuple(f"{theirs}.{name}_proj.{kind}" for name in ("gate", "up")), (part["d_ff"],) * 2
            )
        )
    return found | linear_layouts(f"{ours}.down", f"{theirs}.down_proj", bias=bias)
