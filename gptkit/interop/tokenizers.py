"""The tokenizer of a folder of Hugging Face's, and back: tables alone, nothing that runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptkit import files, registry
from gptkit.errors import DataError, UnknownNameError, UserError

if TYPE_CHECKING:
    from gptkit.model.gpt import GPT
    from gptkit.text.tokenizers.base import Tokenizer

FILES = {"tokenizer.json": "hugging_face", "tokenizer.model": "sentencepiece"}  # the first there is, is taken
PLUGIN = "gptkit-tokenizer-files"
_log = logging.getLogger("gptkit")


def attach_tokenizer(model: GPT, folder: Path) -> None:
    """Give a model the tokenizer that lies beside it; where it cannot be had, say why and go on without.

    Args:
        model: whose vocabulary has a row for each of its tokens.
        folder: may hold `tokenizer.json` or `tokenizer.model`, and `tokenizer_config.json`.
    """
    for file, name in FILES.items():
        if not (folder / file).is_file():
            continue
        node = {"name": name, "path": str(folder / file)}
        try:
            tokenizer = _built(name, node["path"])
        except UnknownNameError:
            _log.warning("%s is not read: the plugin %s brings tokenizer=%s.", folder / file, PLUGIN, name)
        except UserError as error:
            _log.warning("%s is not read: %s", folder / file, error)
        else:
            if tokenizer.vocab_size <= model.shape.vocab_size:
                model.tokenizer = tokenizer
                model.config = {**(model.config or {}), "tokenizer": node}
                return
            _log.warning(
                "%s is not taken: it has %d tokens, but the model has rows for %d.",
                folder / file, tokenizer.vocab_size, model.shape.vocab_size,
            )  # fmt: skip


def _built(name: str, path: str) -> Tokenizer:
    return registry.load("tokenizer", name)(path=path)


def write_tokenizer(tokenizer: Tokenizer | None, folder: Path) -> None:
    """Write the files that `transformers.AutoTokenizer` reads; where none holds it exactly, say so.

    Args:
        tokenizer: of the model that is written there.
        folder: is there already.

    Raises:
        OSError: a file cannot be written.
    """
    if tokenizer is None:
        return
    try:
        contents = tokenizer.hugging_face()
    except (UserError, DataError) as error:
        _log.warning("No tokenizer is written to %s: %s", folder, error)
        return
    for name, data in contents.items():
        files.write_bytes(folder / name, data)
    if "tokenizer.json" not in contents:
        _log.warning(
            "%s is written as it is. transformers converts such a file when it reads it, and gives other tokens "
            "for some texts; the sentencepiece library gives the model's own.",
            folder / next(iter(contents)),
        )
    told: dict[str, Any] = {"clean_up_tokenization_spaces": False, "add_eos_token": False}
    if "tokenizer.json" in contents:
        told["tokenizer_class"] = "PreTrainedTokenizerFast"
    told["add_bos_token"] = tokenizer.begin_of_text is not None
    for key, token in (("bos_token", tokenizer.begin_of_text), ("eos_token", tokenizer.end_of_text)):
        if token is not None:
            told[key] = tokenizer.token_bytes(token).decode("utf-8").strip()
    files.write_json(folder / "tokenizer_config.json", told)
