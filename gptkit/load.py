"""From a run or a model directory to a GPT that can speak, and back; nothing is unpickled.

A model directory is what `save` writes and anyone may send:

    config.json  model.safetensors  tokenizer/  env.json  manifest.json

Loading one looks each name of the config up in the registry and reads tensors as numbers. It runs no
code that came with it, follows no link and never falls back to another way of reading.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gptkit import environment, files, schema, settings
from gptkit.errors import CheckpointError, ConfigError, Problem, RunError
from gptkit.model import assemble
from gptkit.run import CHECKPOINTS, CONFIG, ENVIRONMENT, LATEST, TOKENIZER, WEIGHTS, Run, find
from gptkit.train import manifest, tensor_file
from gptkit.train.state import MODEL, restore_model

if TYPE_CHECKING:
    from gptkit.model.gpt import GPT
    from gptkit.text.tokenizers.base import Tokenizer

_log = logging.getLogger("gptkit")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


def load(
    path: str | os.PathLike[str] = LATEST,
    *,
    step: int | None = None,
    device: torch.device | str = "cpu",
    root: str | os.PathLike[str] = "runs",
) -> GPT:
    """The GPT of a run or a model directory, in evaluation mode, with its tokenizer.

    Args:
        path: a run directory, a part of a run's name that no other has, `latest`, one checkpoint of a
            run, or a model directory.
        step: the checkpoint of this step; the newest sound one by default.
        device: where the weights go.
        root: the folder of runs.

    Raises:
        RunError: there is no such run, or it is not what a run directory may be.
        ConfigError: its config cannot be built here; names the plugin that is missing.
        CheckpointError: the weights are missing, damaged, or not those of this model.
    """
    run, step = _place(path, step, root)
    config = _whole(run.config())
    tokenizer = _read_tokenizer(run)
    tensors = _read_weights(run, step)
    vocabulary = tokenizer.vocab_size if tokenizer is not None else None
    _fits(config, vocabulary, tensors, run)
    model = _assembled(config, vocabulary, device)
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(kinds) == 1:
        model.to(kinds.pop())
    restore_model(model, tensors)
    model.tokenizer = tokenizer
    return model.eval()


def save(model: GPT, directory: str | os.PathLike[str]) -> Path:
    """Write a model directory, whole or not at all: config, weights, tokenizer, versions, digests.

    Args:
        model: one that gptkit built or loaded.
        directory: must not be there yet.

    Raises:
        RunError: the model has no config, or the directory is there or cannot be made.
        CheckpointError: a weight cannot be written.
    """
    if model.config is None:
        raise RunError(
            "This model has no config, so it could not be built again. Build it with gptkit.build."
        )
    place = Path(directory)
    if os.path.lexists(place):
        raise RunError(f"{place} is there already. Choose another place, or remove it first.")
    config = schema.normalise(
        {key: model.config[key] for key in ("seed", "model", "tokenizer") if key in model.config}
    )
    if model.tokenizer is None:
        config["model"]["vocab_size"] = model.shape.vocab_size
    draft = place.with_name(f".{place.name}-{secrets.token_hex(4)}")
    try:
        files.make_directory(place.parent)
        contents = {
            WEIGHTS: tensor_file.encode(model.state_dict()),
            CONFIG: [files.dump_json(config)],
            ENVIRONMENT: [files.dump_json(environment.describe(config))],
        }
        manifest.write(draft, 0, contents)
        if model.tokenizer is not None:
            Run(draft).save_tokenizer(model.tokenizer)
        manifest.prove(draft)
        draft.rename(place)
        files.sync_directory(place.parent)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError):
            raise RunError(f"{place} was not written: {files.cause(error)}.") from error
        if isinstance(error, manifest.Corrupt):
            raise CheckpointError(f"{place} was not written: it read back wrong ({error}).") from None
        raise
    return place


def build(config: Mapping[str, Any], *, device: torch.device | str = "cpu") -> GPT:
    """The GPT that a config describes, with first weights, and its tokenizer where it names one.

    A tokenizer that is made from its corpus is made, or read from the cache of prepared data.

    Args:
        config: from `gptkit.compose`, or any config with a `model`.
        device: where the weights go; `meta` makes none.

    Raises:
        ConfigError: it cannot be built; carries every problem.
        DataError: the tokenizer or its corpus cannot be used.
    """
    checked = _whole(schema.check(config))
    tokenizer = _make_tokenizer(checked)
    vocabulary = tokenizer.vocab_size if tokenizer is not None else None
    model = assemble.build(checked, vocab_size=vocabulary, device=device)
    model.tokenizer = tokenizer
    return model


def _place(
    path: str | os.PathLike[str], step: int | None, root: str | os.PathLike[str]
) -> tuple[Run, int | None]:
    """The run meant, and the step: `<run>/checkpoints/step-000500` names both."""
    if not isinstance(path, (str, os.PathLike)):
        raise RunError(
            f"A model is loaded by its path or by a run's name, such as 'latest'; this is {schema.show(path)}."
        )
    place = Path(path)
    name = place.name.removeprefix("step-")
    if step is None and place.parent.name == CHECKPOINTS and name.isdecimal() and place.is_dir():
        return Run(place.parent.parent), int(name)
    return find(path, root, loadable=True), step


def _whole(config: dict[str, Any]) -> dict[str, Any]:
    """The config with every size of the model."""
    return {**config, "model": {**asdict(settings.ModelSettings()), **config.get("model", {})}}


def _read_weights(run: Run, step: int | None) -> dict[str, Tensor]:
    try:
        weights = files.within(run.path, WEIGHTS)
        checkpoints = files.within(run.path, CHECKPOINTS)
    except ValueError as error:
        raise RunError(f"{run.path} cannot be loaded: {error}.") from None
    if weights.exists() and step is None:
        return _read_exported(run.path)
    if not checkpoints.is_dir():
        raise CheckpointError(_no_weights(run.path))
    found = run.checkpoints.load(step, groups=[MODEL], quarantine=False)
    for notice in found.notices:
        _log.warning("%s", notice)
    if found.notices:
        _log.warning("Loaded step %d instead.", found.step)
    return found.tensors[MODEL]


def _read_exported(folder: Path) -> dict[str, Tensor]:
    """The weights beside a config; checked by their digest where there is one."""
    try:
        if files.within(folder, manifest.NAME).exists():
            manifest.prove(folder, {WEIGHTS})
        return tensor_file.decode(files.within(folder, WEIGHTS))
    except manifest.Corrupt as error:
        raise CheckpointError(f"{folder} is damaged: {error}.") from None
    except ValueError as error:
        raise RunError(f"{folder / WEIGHTS} cannot be loaded: {error}.") from None
    except OSError as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read: {files.cause(error)}.") from error


def _no_weights(folder: Path) -> str:
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    said = f"{folder} holds neither {WEIGHTS} nor {CHECKPOINTS}/."
    if pickled:
        said += f" {pickled[0]} may be a pickle, which can run code when loaded; gptkit never loads one."
    return said


def _fits(config: dict[str, Any], vocabulary: int | None, tensors: dict[str, Tensor], run: Run) -> None:
    """Compare names and shapes before any memory is taken: a stranger's sizes may be absurd."""
    layers = config["model"]["n_layers"]
    if layers > 1000 + len(tensors):
        raise CheckpointError(
            f"{run.path}: its config asks for {layers:,} layers, its weights are for fewer."
        )
    skeleton = _assembled(config, vocabulary, "meta")
    restore_model(skeleton, {name: tensor.to("meta") for name, tensor in tensors.items()})


def _assembled(config: dict[str, Any], vocabulary: int | None, device: torch.device | str) -> GPT:
    try:
        return assemble.build(config, vocab_size=vocabulary, device=device, initialise_weights=False)
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        message = (str(error).splitlines() or ["out of memory"])[0].rstrip(".")
        raise ConfigError([Problem("model", f"it cannot be built with these sizes: {message}.")]) from error


def _read_tokenizer(run: Run) -> Tokenizer | None:
    """The tokenizer kept beside the config; None if there is none."""
    from gptkit.text.tokenizers import load_tokenizer
    from gptkit.text.tokenizers.base import DESCRIPTION

    folder = run.path / TOKENIZER
    try:
        if not files.within(run.path, TOKENIZER).is_dir():
            return None
        for entry in os.listdir(folder):
            os.close(files.open_plain(files.within(folder, entry)))
        told = files.read_json(folder / DESCRIPTION)
        run.refuse_own("tokenizer", str(told["name"]))
    except (KeyError, TypeError):
        raise RunError(f"{folder / DESCRIPTION} names no tokenizer.") from None
    except ValueError as error:
        raise RunError(f"{folder} cannot be loaded: {error}.") from None
    except OSError as error:
        raise RunError(f"{folder} cannot be read: {files.cause(error)}.") from None
    return load_tokenizer(folder)


def _make_tokenizer(config: dict[str, Any]) -> Tokenizer | None:
    from gptkit import registry

    node = config.get("tokenizer")
    if not node:
        return None
    if registry.load("tokenizer", node["name"]).needs_corpus:
        from gptkit.text.shards import prepare

        return prepare(config).tokenizer
    from gptkit.text.tokenizers import build_tokenizer

    return build_tokenizer(node, None)
