"""Sweeps that are ready: `experiment=NAME` brings the words of `conf/comparison/_NAME.yaml` with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gptkit.composing import yaml_file
from gptkit.composing.tree import conf_dir
from gptkit.composing.yaml_file import YamlError
from gptkit.errors import UserError


def expanded(words: Sequence[str]) -> list[str]:
    """The words with those of a ready sweep before them; a key that was typed replaces the sweep's own.

    Raises:
        UserError: the file does not hold a list of words.
    """
    found: list[str] = []
    for name in [word.partition("=")[2] for word in words if word.partition("=")[0] == "experiment"]:
        for folder in (Path("conf"), conf_dir()):
            path = folder / "comparison" / f"_{name}.yaml"
            if path.is_file():
                found += _words(path)
                break
    typed = {_key(word) for word in words}
    return [*(word for word in found if _key(word) not in typed), *words]


def _key(word: str) -> str:
    """What a word sets: `model/position=a` and `position=a` set the same."""
    return word.partition("=")[0].lstrip("+~").replace("/", ".").rsplit(".", 1)[-1]


def _words(path: Path) -> list[str]:
    try:
        _, content = yaml_file.read(path)
    except (OSError, YamlError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    words = content.get("words") if isinstance(content, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) and "=" in word for word in words):
        raise UserError(f"{path} must hold words: a list such as [position=rotary,alibi, seed=1,2,3].")
    return words
