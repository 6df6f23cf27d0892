"""Tokenizers: how text becomes numbers and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptkit import files, registry
from gptkit.errors import DataError
from gptkit.schema import part_options
from gptkit.text.tokenizers.base import DESCRIPTION, Tokenizer

if TYPE_CHECKING:
    from gptkit.text.corpora import Corpus

__all__ = ["Tokenizer", "build_tokenizer", "load_tokenizer"]


def build_tokenizer(node: Mapping[str, Any], corpus: Corpus | None) -> Tokenizer:
    """The tokenizer that a config names, made from the corpus if it needs one.

    Raises:
        DataError: it needs a corpus and there is none, or its vocabulary cannot be had.
    """
    tokenizer: Tokenizer = registry.load("tokenizer", node["name"])(**part_options("tokenizer", node))
    if tokenizer.needs_corpus:
        if corpus is None:
            raise DataError(
                f"tokenizer={node['name']} is made from a text, and none was given. "
                "Give one, or choose a tokenizer with a fixed vocabulary, such as byte or gpt2."
            )
        tokenizer.fit(corpus.all_documents())
    return tokenizer


def load_tokenizer(folder: Path) -> Tokenizer:
    """A tokenizer as it was saved; reads plain data only, and checks each file's sha256.

    Raises:
        DataError: the folder holds no tokenizer, or not what was saved.
    """
    try:
        told = files.read_json(files.within(folder, DESCRIPTION))
        name, options = told["name"], dict(told["options"])
        tokenizer: Tokenizer = registry.load("tokenizer", name)(**options)
        tokenizer.restore(folder, dict(told["files"]))
    except OSError as error:
        raise DataError(f"{folder}: the tokenizer cannot be read: {files.cause(error)}.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: no tokenizer that gptkit saved: {error}.") from None
    return tokenizer
