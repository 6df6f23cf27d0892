"""How many tokens the model of a config tells apart. Importing this needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def vocabulary(config: Mapping[str, Any]) -> int:
    """How many tokens the model of a config tells apart; a tokenizer is made from the text if it must be."""
    fixed = config["model"].get("vocab_size")
    if fixed is not None:
        return fixed
    from gptkit import registry
    from gptkit.text.tokenizers import build_tokenizer

    node = config["tokenizer"]
    if registry.load("tokenizer", node["name"]).needs_corpus:
        from gptkit.text.shards import prepare

        return prepare(config).tokenizer.vocab_size
    return build_tokenizer(node, None).vocab_size
