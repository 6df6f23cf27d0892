"""Models of Hugging Face's `transformers` as models of ours, and back: config, weights, nothing that runs."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gptkit import files, registry, schema
from gptkit.errors import GptkitError, RunError, UserError
from gptkit.interop import families
from gptkit.interop.fields import Fields
from gptkit.interop.layout import Layout, Same, read_all, write_all
from gptkit.interop.tokenizers import attach_tokenizer, write_tokenizer
from gptkit.model.assemble import DEFAULTS, build, layers_in
from gptkit.model.gpt import GPT

_INDEX, _WEIGHTS = "model.safetensors.index.json", "model.safetensors"
_LARGEST = 5 * 1000**3  # bytes of one file of weights
_TRAINING = {"balance_rate", "z_penalty"}  # options that only training asks for
_IDLE = {"init", "preset", "dropout", "bias"}  # what parts say for themselves, or what no weight shows


class _Differs(UserError):
    """A family holds such models, but not this one.

    Attributes:
        fields: in how many things it differs.
    """

    def __init__(self, differences: list[str]) -> None:
        super().__init__("; ".join(differences))
        self.fields = len(differences)


def load_hf(directory: str | os.PathLike[str], *, tokenizer: bool = True) -> GPT:
    """The GPT in a folder that `save_pretrained` wrote, in evaluation mode, with its tokenizer.

    Args:
        directory: with `config.json` and `model.safetensors`, or its shards and their index. The tokenizer
            is read from `tokenizer.json`, else from `tokenizer.model`; a warning says why one is not.
        tokenizer: read it where there is one.

    Raises:
        UserError: the family is not known, a field of its config cannot be held, or weights are missing
            or left over; names each.
    """
    folder = Path(directory)
    model = from_hf(_read_json(folder, "config.json"), _read_weights(folder))
    if tokenizer:
        attach_tokenizer(model, folder)
    return model


def from_hf(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> GPT:
    """The GPT of a config and a `state_dict`; see `load_hf`."""
    kind = config.get("model_type")
    family = families.family(kind)
    if hasattr(family, "load"):
        return family.load(config, state).eval()
    section = section_of(config)
    layouts = family.layouts(section)
    weights = _under_head(layouts, state)
    if section["head"].get("tied"):
        weights.pop("lm_head.weight", None)
        weights.pop("embed_out.weight", None)
    endings = tuple(family.IGNORED)
    beginnings = family.unread(config) if hasattr(family, "unread") else ()
    found = read_all(layouts, weights, lambda name: name.endswith(endings) or name.startswith(beginnings))
    try:
        model = build({"model": section}, initialise_weights=False)
    except GptkitError as error:
        raise UserError(f"This {kind} cannot be built here: {error}") from error
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    wrong = [
        f"{n} is {tuple(t.shape)}, not {expected[n]}"
        for n, t in found.items()
        if tuple(t.shape) != expected.get(n)
    ]
    wrong += [f"{name} is missing" for name in expected.keys() - found.keys()]
    if wrong:
        raise UserError(f"The weights do not fit the config: {'; '.join(sorted(wrong)[:8])}.")
    model.to(next(iter(found.values())).dtype)
    model.load_state_dict(found)
    return model.eval()


def _under_head(layouts: Mapping[str, Layout], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names of a model with a head; of one that was saved without, they lack the beginning."""
    embedding = layouts["embedding.weight"]
    assert isinstance(embedding, Same)
    beginning = embedding.theirs.split(".")[0] + "."
    whole = any(name.startswith(beginning) for name in state)
    return {name if whole else beginning + name: tensor for name, tensor in state.items()}


def section_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `model` section of a `config.json`, with every option written out.

    Raises:
        UserError: a field is missing, unknown or cannot be held; names each.
    """
    kind = config.get("model_type")
    family = families.family(kind)
    fields = Fields(config, str(kind), getattr(family, "SILENT", None))
    section = family.read(fields)
    fields.done()
    return _normal(section)


def to_hf(model: GPT, kind: str | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A model as one of `transformers`: what its `config.json` and its weights' file hold.

    Args:
        model: one that was built from a config.
        kind: the `model_type`; found by trying where it is not told.

    Raises:
        UserError: no family, or not this one, holds such a model; says what differs.
    """
    if model.config is None:
        raise UserError(
            "This model has no config, so what it is made of cannot be told. Build it with gptkit.build."
        )
    section = _normal({**model.config["model"], "vocab_size": model.shape.vocab_size})
    reasons: dict[str, UserError] = {}
    for name in [kind] if kind else families.names():
        family = families.family(name)
        try:
            if hasattr(family, "export"):
                return family.export(model)
            return _as(name, section), write_all(family.layouts(section), model.state_dict())
        except UserError as error:
            reasons[name] = error
    nearest = kind or min(reasons, key=lambda name: getattr(reasons[name], "fields", math.inf))
    why = str(reasons[nearest]).rstrip(".")
    if kind:
        raise UserError(f"{kind} cannot hold this model: {why}.")
    raise UserError(f"No family of transformers holds this model. The nearest, {nearest}, cannot: {why}.")


def save_hf(model: GPT, directory: str | os.PathLike[str], kind: str | None = None) -> Path:
    """Write a folder that `transformers` loads with `from_pretrained`, the model's tokenizer with it.

    A warning says where no file of `transformers` holds the tokenizer.

    Args:
        model: one that was built from a config.
        directory: must not be there yet.
        kind: the `model_type`; found by trying where it is not told.

    Raises:
        UserError: no family holds such a model.
        RunError: the directory is there already, or cannot be written.
    """
    place = Path(directory)
    if os.path.lexists(place):
        raise RunError(f"{place} is there already. Choose another place, or remove it first.")
    config, state = to_hf(model, kind)
    try:
        files.make_directory(place)
        files.write_json(place / "config.json", config)
        _write_weights(place, {name: tensor.detach().contiguous().clone() for name, tensor in state.items()})
        write_tokenizer(model.tokenizer, place)
    except OSError as error:
        raise RunError(f"{place} was not written: {files.cause(error)}.") from error
    return place


def _as(kind: str, section: dict[str, Any]) -> dict[str, Any]:
    """A section as a family's config; trusted only where reading it back gives the section again.

    Raises:
        UserError: it does not; says what differs.
    """
    family = families.family(kind)
    try:
        config = family.write(section)
    except KeyError as error:
        raise UserError(f"it has no {error}") from None
    back = section_of({"model_type": kind, **config})
    differ = [
        f"{key}={_short(section.get(key))} where it would have {_short(back.get(key))}"
        for key in sorted(section.keys() | back.keys())
        if key not in _IDLE and not _same(section.get(key), back.get(key))
    ]
    if differ:
        raise _Differs(differ)
    return {**config, "architectures": [family.ARCHITECTURE], "model_type": kind}


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two values say the same of a model's logits; numbers up to rounding."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = (ours.keys() | theirs.keys()) - _TRAINING
        if "balance" in keys and "bias" not in {ours.get("balance"), theirs.get("balance")}:
            keys.discard("balance")
        return all(key in ours and key in theirs and _same(ours[key], theirs[key]) for key in keys)
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-12)
    return ours == theirs


def _short(value: Any) -> str:
    return (
        str(value.get("name", value))
        if isinstance(value, dict) and set(value) == {"name"}
        else json.dumps(value)
    )


def _normal(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section with every part, option and layer written out, so that two can be compared."""
    checked = schema.check({"model": {**DEFAULTS, **section}})["model"]
    heads, width, count = checked["n_heads"], checked["d_model"], checked["n_layers"]
    whole = {**checked, **{part: _filled(part, checked[part]) for part in DEFAULTS}}
    layers: dict[str, dict[str, Any]] = {}
    for where, changes in (checked.get("layers") or {}).items():
        for index in layers_in(where, count):
            own = {part: _filled(part, node) for part, node in changes.items()}
            layers[str(index)] = {**layers.get(str(index), {}), **own}
    sizes = {
        "n_kv_heads": checked.get("n_kv_heads") or heads,
        "d_head": checked.get("d_head") or width // heads,
        "d_ff": checked.get("d_ff") or 4 * width,
    }
    differing = {i: {p: n for p, n in own.items() if n != whole[p]} for i, own in sorted(layers.items())}
    return {**whole, **sizes, "layers": {i: own for i, own in differing.items() if own}}


def _filled(part: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """A part's node with the defaults of the options that it does not set."""
    slot = f"model.{part}"
    if registry.SLOTS[slot].many:
        return {name: {**_defaults(slot, name), **options} for name, options in node.items()}
    return {"name": node["name"], **_defaults(slot, node["name"]), **node}


def _defaults(slot: str, name: str) -> dict[str, Any]:
    options = registry.find(slot, name).declaration.options
    return {option.name: option.default for option in options if not option.required}


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = files.parse_json((folder / name).read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{folder} has no {name}. A model of transformers has config.json and {_WEIGHTS}."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / name} cannot be read: {str(error).splitlines()[0]}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{folder / name} holds no fields.")
    return content


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors; files of a download's cache are links, so links are followed, but no name leads elsewhere."""
    names = [_WEIGHTS]
    if not (folder / _WEIGHTS).exists() and (folder / _INDEX).exists():
        where = _read_json(folder, _INDEX).get("weight_map")
        names = sorted(set(map(str, where.values()))) if isinstance(where, dict) else []
        strange = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
        if strange or not names:
            raise UserError(
                f"{folder / _INDEX} names no files of weights beside it{': ' * bool(strange)}{strange or ''}."
            )
    state: dict[str, Tensor] = {}
    for name in names:
        try:
            state |= load_file(folder / name)
        except FileNotFoundError:
            raise UserError(
                f"{folder} has no {name}. pytorch_model.bin is a pickle and is never loaded; "
                "save_pretrained writes safetensors."
            ) from None
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder / name} cannot be read: {str(error).splitlines()[0]}.") from None
    return state


def _write_weights(place: Path, state: dict[str, Tensor]) -> None:
    """One file, or several of at most 5 GB with an index."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        if shards[-1] and size + tensor.nbytes > _LARGEST:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        save_file(state, place / _WEIGHTS, metadata={"format": "pt"})
        return
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, place / name, metadata={"format": "pt"})
        where |= dict.fromkeys(shard, name)
    total = sum(tensor.nbytes for tensor in state.values())
    files.write_json(place / _INDEX, {"metadata": {"total_size": total}, "weight_map": where})
