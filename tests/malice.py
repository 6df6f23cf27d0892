"""Model directories that a stranger might send, each with a trap; and a watch over a process that loads them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import gptkit

SIZES = {"context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2, "vocab_size": 7}
CONFIG: dict[str, Any] = {
    "seed": 1,
    "model": {**SIZES, "position": {"name": "learned"}, "mask": {"causal": {}}},
}


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.mark}'",)


def good_run(folder: Path) -> Path:
    """A run with one checkpoint, and nothing wrong."""
    run = gptkit.run.create(CONFIG, [], folder)
    model = gptkit.build(CONFIG)
    run.checkpoints.save(1, {"model": model.state_dict()}, {"step": 1})
    return run.path


def good_model(folder: Path, tokenizer: str | None = None) -> Path:
    """A model directory with nothing wrong."""
    config = {**CONFIG, "model": {**CONFIG["model"]}}
    if tokenizer is not None:
        text = folder.with_suffix(".txt")
        text.write_text("to be or not to be, that is the question. " * 30)
        config["tokenizer"] = {"name": tokenizer, **({"size": 270} if tokenizer == "bpe" else {})}
        config["data"] = {"name": "text", "path": str(text)}
        config["model"]["vocab_size"] = None
    return gptkit.save(gptkit.build(config), folder)


def traps(root: Path) -> Iterator[tuple[str, Path, bool]]:
    """(what it is, the directory, whether it may load all the same: then the trap must not matter)."""
    outside = root / "outside"
    outside.mkdir(parents=True)
    mark = root / "mark"
    models = good_model(root / "template"), good_run(root / "template-runs")

    def model(name: str, change: Callable[[Path], Any], *, harmless: bool = False, run: bool = False):
        place = root / "sent" / name.replace("/", "_")
        shutil.copytree(models[run], place)
        change(place)
        return name, place, harmless

    def config(name: str, change: Callable[[dict[str, Any]], Any]):
        return model(name, lambda place: _rewrite(place / "config.json", change))

    yield from _pickles(model, mark)
    yield from _configs(config)
    yield from _links(model, outside)
    yield from _headers(model)
    yield from _texts(model)
    yield from _tokenizers(model)


def _pickles(model: Callable, mark: Path) -> Iterator:
    bomb = Bomb(mark)

    def plain(path: Path) -> None:
        path.write_bytes(pickle.dumps(bomb))

    def zipped(path: Path) -> None:
        torch.save({"w": bomb}, path)

    def zip_slip(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("../../evil", "x")

    for kind in (plain, zipped, zip_slip):
        yield model(f"weights are a pickle, {kind.__name__}", lambda place, kind=kind: _bare(place, kind))
    for name in ("model.pt", "pytorch_model.bin", "optimizer.pkl", "tokenizer.pkl", "x.npy", "conftest.py"):
        yield model(f"a pickle beside, {name}", lambda place, name=name: plain(place / name), harmless=True)
    yield model(
        "a pickle in a checkpoint",
        lambda place: plain(place / "checkpoints/step-000001/optimizer.pt"),
        harmless=True,
        run=True,
    )
    yield model(
        "a checkpoint's weights are a pickle",
        lambda place: plain(place / "checkpoints/step-000001/model.safetensors"),
        run=True,
    )
    yield model("a tokenizer that is a pickle", lambda place: _tokenizer(place, plain))
    yield model(
        "only a pickle", lambda place: (zipped(place / "m.pt"), (place / "model.safetensors").unlink())
    )


def _bare(place: Path, write: Callable[[Path], None]) -> None:
    (place / "manifest.json").unlink()
    write(place / "model.safetensors")


def _tokenizer(place: Path, write: Callable[[Path], None]) -> None:
    (place / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer.pkl", "config.json", "vocab.tiktoken"):
        write(place / "tokenizer" / name)


def _configs(config: Callable) -> Iterator:
    target = {"_target_": "os.system", "command": "touch mark"}
    places: dict[str, Callable[[dict[str, Any]], Any]] = {
        "top": lambda c: c.update(target),
        "model": lambda c: c["model"].update(target),
        "position": lambda c: c["model"]["position"].update(target),
        "a part": lambda c: c["model"].update(norm=target),
        "mask": lambda c: c["model"]["mask"]["causal"].update(target),
        "layers": lambda c: c["model"].update(layers={"0": {"position": target}}),
        "list": lambda c: c["model"].update(mask=[target]),
        "deep": lambda c: c.update(data={"name": "text", "path": [[[{"x": [target]}]]]}),
        "tokenizer": lambda c: c.update(tokenizer=target),
        "callback": lambda c: c.update(callback={"x": target}),
    }
    for name, change in places.items():
        yield config(f"_target_ in {name}", change)
    for key in (
        "_partial_",
        "_args_",
        "_recursive_",
        "_convert_",
        "_self_",
        "_x_",
        "__class__",
        "__reduce__",
    ):
        yield config(f"the key {key}", lambda c, key=key: c["model"]["position"].update({key: "os.system"}))
    for text in ("${oc.env:HOME}", "${oc.decode:x}", "${hydra:runtime.cwd}", "x${now:%Y}", "${seed}"):
        yield config(f"{text} as a name", lambda c, text=text: c["model"]["position"].update(name=text))
        yield config(f"{text} at the top", lambda c, text=text: c.update(name=text))
        yield config(
            f"{text} in a key", lambda c, text=text: c["model"].update(layers={text: {"position": "none"}})
        )
    names = (
        "os.system", "builtins.eval", "subprocess.Popen", "torch.load", "gptkit.model.positions.Learned",
        "gptkit.model.positions:Learned", "../evil", "/etc/passwd", "evil", "learned\0", "learned.py", "",
        "__import__('os').system('touch mark')", "!!python/object/apply:os.system",
    )  # fmt: skip
    for name in names:
        yield config(f"the part {name!r}", lambda c, name=name: c["model"]["position"].update(name=name))
        yield config(f"the mask {name!r}", lambda c, name=name: c["model"].update(mask={name: {}}))
    for key, value in {
        "d_model": 10**9, "n_layers": 10**9, "context_length": 10**15, "d_ff": 10**18, "n_heads": 0,
        "vocab_size": -1, "n_kv_heads": 10**30, "d_head": 2**62, "bias": "yes", "layers": [1], "mask": 3,
        "norm": None, "position": [["learned"]],
    }.items():  # fmt: skip
        yield config(f"{key} is {value!r}", lambda c, key=key, value=value: c["model"].update({key: value}))
    yield config("no model", lambda c: c.pop("model"))
    yield config("model is text", lambda c: c.update(model="nano"))


def _links(model: Callable, outside: Path) -> Iterator:
    def moved(place: Path, *names: str) -> None:
        target = place.joinpath(*names)
        elsewhere = outside / place.name
        shutil.move(target, elsewhere)
        target.symlink_to(elsewhere)

    for name in ("config.json", "model.safetensors", "manifest.json"):
        yield model(f"{name} is a link", lambda place, name=name: moved(place, name))
    for names in (
        ("checkpoints",),
        ("checkpoints", "step-000001"),
        ("checkpoints", "step-000001", "model.safetensors"),
        ("checkpoints", "step-000001", "state.json"),
        ("checkpoints", "step-000001", "manifest.json"),
    ):
        yield model(f"{'/'.join(names)} is a link", lambda place, names=names: moved(place, *names), run=True)
    yield model("tokenizer is a link", lambda place: (place / "tokenizer").symlink_to("/etc"))
    yield model(
        "a tokenizer's file is a link",
        lambda place: (
            (place / "tokenizer").mkdir(),
            (place / "tokenizer/tokenizer.json").symlink_to("/etc/passwd"),
        ),
    )
    yield model(
        "weights are a pipe",
        lambda place: ((place / "model.safetensors").unlink(), os.mkfifo(place / "model.safetensors")),
    )
    yield model(
        "a tokenizer's file is a pipe",
        lambda place: ((place / "tokenizer").mkdir(), os.mkfifo(place / "tokenizer/tokenizer.json")),
    )


def _headers(model: Callable) -> Iterator:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    headers: dict[str, Any] = {
        "overlapping": {"a": entry, "b": entry},
        "past the end": {"a": {**entry, "data_offsets": [0, 10**12]}},
        "backwards": {"a": {**entry, "data_offsets": [8, 0]}},
        "negative": {"a": {**entry, "shape": [-2]}},
        "overflowing": {"a": {**entry, "shape": [2**62, 4]}},
        "a type of its own": {"a": {**entry, "dtype": "PY"}},
        "no object": [1, 2],
        "shared with nothing": {"a": entry, "__metadata__": {"gptkit.shared": '{"b": "c"}'}},
        "shared over a tensor": {"a": entry, "__metadata__": {"gptkit.shared": '{"a": "a"}'}},
        "shared is no JSON": {"a": entry, "__metadata__": {"gptkit.shared": "__import__('os')"}},
        "shared is a list": {"a": entry, "__metadata__": {"gptkit.shared": "[1]"}},
        "the wrong tensors": {"a": entry},
    }
    for name, header in headers.items():
        text = json.dumps(header).encode()
        data = len(text).to_bytes(8, "little") + text + bytes(8)
        yield model(
            f"a header {name}", lambda place, data=data: _bare(place, lambda path: path.write_bytes(data))
        )
    for length in (2**63, 2**40, 0):
        data = length.to_bytes(8, "little") + b"{}"
        yield model(
            f"a header of {length} bytes",
            lambda place, data=data: _bare(place, lambda path: path.write_bytes(data)),
        )


def _tokenizers(model: Callable) -> Iterator:
    """Descriptions that lead elsewhere, and vocabularies that are none, with the right digest."""
    descriptions: dict[str, Any] = {
        "dotted": {"name": "os.system", "options": {}, "files": {}},
        "a list as its name": {"name": ["byte"], "options": {}, "files": {}},
        "an option of no kind": {"name": "byte", "options": {"_target_": "os.system"}, "files": {}},
        "files outside": {"name": "char", "options": {}, "files": {"../../outside/x": "0"}},
        "files at the root": {"name": "char", "options": {}, "files": {"/etc/passwd": "0"}},
        "a published table that is missing": {"name": "cl100k_base", "options": {}, "files": {}},
        "a list": [1],
        "nothing": {},
    }
    for name, told in descriptions.items():
        yield model(f"a tokenizer that is {name}", lambda place, told=told: _describe(place, told, {}))
    for name, data in {
        "a pickle": b"\x80\x04cos\nsystem\n.",
        "no list": b"3",
        "deep": b"[" * 100_000,
        "not UTF-8": b'"\xff"',
        "one byte alone": b"YQ== 0\n",
    }.items():
        for kind, file in (
            ("word", "vocabulary.json"),
            ("bpe", "ranks.tiktoken"),
            ("cl100k_base", "ranks.tiktoken"),
        ):
            told = {"name": kind, "options": {}, "files": {file: hashlib.sha256(data).hexdigest()}}
            yield model(
                f"a {kind} vocabulary that is {name}",
                lambda place, told=told, file=file, data=data: _describe(place, told, {file: data}),
            )


def _describe(place: Path, told: Any, contents: dict[str, bytes]) -> None:
    (place / "tokenizer").mkdir()
    (place / "tokenizer/tokenizer.json").write_text(json.dumps(told))
    for name, data in contents.items():
        (place / "tokenizer" / name).write_bytes(data)


def _texts(model: Callable) -> Iterator:
    texts = {
        "NaN": b'{"seed": NaN}',
        "a key twice": b'{"model": {}, "model": {}}',
        "huge": b'{"name": "' + b"x" * 3_000_000 + b'"}',
        "deep": b"[" * 100_000,
        "no JSON": b"\x80\x04cos\nsystem\n.",
    }
    for name, data in texts.items():
        yield model(
            f"a config that is {name}", lambda place, data=data: (place / "config.json").write_bytes(data)
        )
        yield model(
            f"a manifest that is {name}", lambda place, data=data: (place / "manifest.json").write_bytes(data)
        )
        yield model(
            f"a state that is {name}",
            lambda place, data=data: (place / "checkpoints/step-000001/state.json").write_bytes(data),
            run=True,
        )
    yield model(
        "a manifest that leads out",
        lambda place: _rewrite(
            place / "checkpoints/step-000001/manifest.json",
            lambda told: told["files"].update({"../../../outside.json": told["files"]["state.json"]}),
        ),
        run=True,
    )


def _rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    told = json.loads(path.read_text("utf-8"))
    change(told)
    path.write_text(json.dumps(told))
