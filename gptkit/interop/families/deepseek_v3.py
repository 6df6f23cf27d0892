"""DeepSeek-V3 (2024): latent attention, and experts in groups that a bias keeps equally busy.

The weights that predict further tokens, which follow the last layer, are not read: as in transformers
they have no part in the logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gptkit.errors import UserError
from gptkit.interop.families import _experts, _llama
from gptkit.interop.families._shared import linear_layouts, norm_layouts, told_rope
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout, Same

ARCHITECTURE = "DeepseekV3ForCausalLM"
SILENT = {"max_position_embeddings": 4096, "num_experts_per_tok": 8, "q_lora_rank": 1536}
IGNORED = (".rotary_emb.inv_freq",)


def read(fields: Fields) -> dict[str, Any]:
    """The model section of a config."""
    heads = fields.whole("num_attention_heads")
    fields.only("num_key_value_heads", heads, None)
    for derived in ("num_nextn_predict_layers", "num_mtp_layers", "ep_size"):
        fields.take(derived, None)
    for fixed, value in (("moe_layer_freq", 1), ("scoring_func", "sigmoid"), ("topk_method", "noaux_tc")):
        fields.only(fixed, value)
    for neutral in ("aux_loss_alpha", "seq_aux"):
        fields.take(neutral, None)
    content, placed = fields.whole("qk_nope_head_dim"), fields.whole("qk_rope_head_dim")
    fields.only("head_dim", placed)
    fields.only("qk_head_dim", content + placed)
    shared, width = fields.whole("n_shared_experts", 1), fields.config.get("moe_intermediate_size", 1)
    experts = {
        **_experts.read(fields, "n_routed_experts", "moe_intermediate_size"),
        "d_shared": shared * width if isinstance(width, int) else 1, "score": "sigmoid",
        "renormalise": bool(fields.take("norm_topk_prob", True)),
        "factor": float(fields.number("routed_scaling_factor", 2.5)), "groups": fields.whole("n_group", 8),
        "active_groups": fields.whole("topk_group", 4), "balance": "bias", "balance_rate": None,
    }  # fmt: skip
    attention = {
        "name": "latent", "d_content": content, "d_value": fields.whole("v_head_dim"),
        "kv_rank": fields.whole("kv_lora_rank"), "q_rank": fields.whole_or("q_lora_rank", None),
        "bias": bool(fields.take("attention_bias", False)),
    }  # fmt: skip
    dense = fields.whole("first_k_dense_replace", 3, least=0)
    interleaved = bool(fields.take("rope_interleave", True))
    sharpened = _sharpened(fields)
    section = _llama.read(fields, attention=attention)
    section["position"]["interleaved"] = interleaved
    if sharpened is not None:
        section["position"]["strength"], factor = sharpened
        section["attention"]["scale"] = (content + placed) ** -0.5 * factor**2
    layers = {
        str(i): {"feed_forward": section["feed_forward"]} for i in range(min(dense, section["n_layers"]))
    }
    return {**section, "d_head": placed, "n_kv_heads": heads, "feed_forward": experts, "layers": layers}


def _sharpened(fields: Fields) -> tuple[float, float] | None:
    """YaRN's factors on q and k, and on the scores; takes what tells them out of the fields."""
    name, rope = told_rope(fields)
    one, all_dim, factor = rope.pop("mscale", None), rope.pop("mscale_all_dim", None), rope.get("factor")
    if (one is None and all_dim is None) or not factor or rope.get("rope_type", rope.get("type")) != "yarn":
        return None
    fields.config = {**fields.config, name: rope}
    strength = _strength(factor, 1.0)
    if one and all_dim:
        strength = _strength(factor, one) / _strength(factor, all_dim)
    told = rope.get("attention_factor")
    return float(strength if told is None else told), _strength(factor, all_dim) if all_dim else 1.0


def _strength(factor: float, share: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * share * math.log(factor) + 1.0


def write(section: dict[str, Any]) -> dict[str, Any]:
    """The config of a section."""
    node, attention, position = section["feed_forward"], section["attention"], section["position"]
    if node["name"] != "mixture_of_experts" or attention["name"] != "latent":
        raise UserError(
            f"its attention is {attention['name']!r} and its feed-forward network {node['name']!r}, not latent and a "
            "mixture of experts"
        )
    dense = sorted(int(i) for i, own in section["layers"].items() if "feed_forward" in own)
    if dense != list(range(len(dense))):
        raise UserError("layers without experts are not the first ones")
    network = section["layers"]["0"]["feed_forward"] if dense else {"name": "swiglu"}
    plain = _llama.write({**section, "feed_forward": network}, head_dim=False)
    content = attention["d_content"] or section["d_head"]
    default = (content + section["d_head"]) ** -0.5
    if attention["scale"] is not None:
        sharper = (attention["scale"] / default) ** 0.5
        if position["name"] != "rotary_yarn":
            raise UserError(f"its scale is {attention['scale']}, which only YaRN can tell")
        rope = plain["rope_parameters"]
        rope["mscale_all_dim"] = (sharper - 1) / (0.1 * math.log(position["factor"]))
        rope.setdefault("attention_factor", _strength(position["factor"], 1.0))
    width = node["d_expert"]
    if width is None or not node["d_shared"] or node["d_shared"] % width:
        raise UserError(f"d_shared={node['d_shared']} is not some experts of d_expert={width} wide")
    told = _experts.write(node, "n_routed_experts", "moe_intermediate_size")
    del told["router_aux_loss_coef"]
    return {
        **plain, **told, "rms_norm_eps": section["norm"]["eps"], "attention_bias": attention["bias"],
        "qk_nope_head_dim": content, "qk_rope_head_dim": section["d_head"],
        "v_head_dim": attention["d_value"] or content, "kv_lora_rank": attention["kv_rank"] or 4 * content,
        "q_lora_rank": attention["q_rank"], "rope_interleave": position["interleaved"],
        "n_shared_experts": node["d_shared"] // width, "norm_topk_prob": node["renormalise"],
        "routed_scaling_factor": node["factor"], "n_group": node["groups"], "topk_group": node["active_groups"],
        "first_k_dense_replace": len(dense), "num_nextn_predict_layers": 0,
    }  # fmt: skip


def unread(config: Mapping[str, Any]) -> tuple[str, ...]:
    """How the names of the weights that predict further tokens begin."""
    count = config["num_hidden_layers"]
    further = config.get("num_nextn_predict_layers", config.get("num_mtp_layers", 1)) or 0
    return tuple(f"model.layers.{count + i}." for i in range(further))


def layouts(section: dict[str, Any]) -> dict[str, Layout]:
    """Where each weight is kept."""

    def attention(part: dict[str, Any], ours: str, theirs: str) -> dict[str, Layout]:
        node = part["attention"]
        found = linear_layouts(f"{ours}.kv_down", f"{theirs}.kv_a_proj_with_mqa", bias=node["bias"])
        found |= norm_layouts(f"{ours}.kv_norm", f"{theirs}.kv_a_layernorm", bias=False)
        found[f"{ours}.kv_up.weight"] = Same(f"{theirs}.kv_b_proj.weight")
        found |= linear_layouts(f"{ours}.out", f"{theirs}.o_proj", bias=node["bias"])
        if node["q_rank"] is None:
            return {**found, f"{ours}.q.weight": Same(f"{theirs}.q_proj.weight")}
        found |= linear_layouts(f"{ours}.q.0", f"{theirs}.q_a_proj", bias=node["bias"])
        found |= norm_layouts(f"{ours}.q.1", f"{theirs}.q_a_layernorm", bias=False)
        return {**found, f"{ours}.q.2.weight": Same(f"{theirs}.q_b_proj.weight")}

    def network(part: dict[str, Any], ours: str, theirs: str) -> dict[str, Layout]:
        bias = "gate.e_score_correction_bias"
        return _experts.layouts(part, ours, theirs, preference=bias, shared="shared_experts")

    return _llama.layouts(section, attention=attention, network=network)
