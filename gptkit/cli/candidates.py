"""What may stand at the end of a command line. Neither torch nor Hydra is needed to know it."""

from __future__ import annotations

import ast
import contextlib
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from gptkit import registry
from gptkit.cli import verbs
from gptkit.composing.defaults import chosen
from gptkit.composing.tree import OVERLAYS, Tree
from gptkit.errors import GptkitError
from gptkit.schema import SECTIONS, options_of

_FLAG = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)")
_SIGN = re.compile(r"^(\+\+|\+|~)?(.*)$", re.DOTALL)
_PATHS = ("config", "data.path", "data.val_path", "from", "out", "run_root", "--config-dir")
_SHELLS = ("bash", "zsh", "fish")


def candidates(line: str) -> list[str]:
    """The words that the last one of a command line may become.

    Args:
        line: as typed so far; a space at its end begins a new word.
    """
    words = line.split()[1:]
    last = "" if not words or line[-1:].isspace() else words.pop()
    with contextlib.suppress(GptkitError, OSError):
        return sorted({word for word in _offered(words, last) if word.startswith(last)})
    return []


def _offered(words: list[str], last: str) -> Iterable[str]:
    if not words:
        return ["--help", "--version"] if last.startswith("-") else verbs()
    verb, *rest = words
    if rest and rest[-1] == "--config-dir":
        return _files(last)
    if last.startswith("-"):
        return [*_flags(verb), "--help"]
    offer = _VERBS.get(verb)
    return offer(rest, last) if offer else []


def _flags(verb: str) -> list[str]:
    """The flags that a verb's usage names; it is read, not imported."""
    folder = Path(__file__).parent
    path = next((p for p in (folder / f"{verb}.py", folder / f"{verb}_.py") if p.is_file()), None)
    for node in ast.parse(path.read_text("utf-8")).body if path else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "USAGE":
            return _FLAG.findall(ast.literal_eval(node.value))
    return []


def _train(words: list[str], last: str) -> Iterator[str]:
    if last.startswith("resume="):
        yield from _runs("resume=")
    else:
        yield "resume="
        yield from _config_words(words, last)


def _compare(words: list[str], last: str) -> Iterator[str]:
    from gptkit.compare.asked import METRICS, OWN
    from gptkit.compare.equal import BUDGETS
    from gptkit.compare.spaces import PRUNERS, SWEEPERS

    key, equals, value = last.partition("=")
    known = {
        "budget": [f"{kind}:" for kind in BUDGETS],
        "match": ["parameters"],
        "metric": METRICS,
        "jobs": ["auto"],
        "sweeper": SWEEPERS,
        "pruner": PRUNERS,
        "resume": ["latest", *_files(value)],
        "runs": _files(value),
        "zip": [word.partition("=")[0] for word in words if "," in word],
    }
    if equals and key in known:
        yield from (f"{key}={each}" for each in known[key])
    else:
        yield from (f"{word}=" for word in (*OWN, "resume", "runs"))
        yield from _config_words(words, last)


def _config(words: list[str], last: str) -> Iterator[str]:
    if not words:
        yield from ("show", "validate", "diff")
    elif "=" not in last and words[0] in {"show", "diff"}:
        yield from _runs("")
    if words:
        yield from _config_words(words[1:], last)


def _config_words(words: list[str], last: str) -> Iterator[str]:
    """Groups, keys, and what may stand after their `=`."""
    folder = words[words.index("--config-dir") + 1] if "--config-dir" in words[:-1] else None
    tree = Tree(folder)
    sign, bare = _SIGN.match(last).groups("")  # type: ignore[union-attr]
    key, equals, value = bare.partition("=")
    if equals:
        yield from (f"{sign}{key}={each}" for each in _values(tree, words, key, value))
        return
    close = "" if sign == "~" else "="
    short = {name: found[0] for name, found in tree.short_names().items() if len(found) == 1}
    groups = [*tree.groups(), "config"] if "/" in bare or bare else [g for g in tree.groups() if "/" not in g]
    if "." not in bare:
        yield from (f"{sign}{name}{close}" for name in [*groups, *short])
    for each in _keys(tree, words):
        rest = each[len(bare) :] if each.startswith(bare) else None
        if rest is not None:  # as far as the next dot
            step, dot, _ = rest.lstrip(".").partition(".")
            lead = bare + rest[: len(rest) - len(rest.lstrip("."))]
            yield f"{sign}{lead}{step}{dot or close}"


def _keys(tree: Tree, words: list[str]) -> Iterator[str]:
    """Every key that a config with these words may hold."""
    for section, cls in SECTIONS.items():
        yield from (f"{section}.{name}" if section else name for name in options_of(cls))
    for slot, name in _parts(tree, words):
        with contextlib.suppress(GptkitError):
            for option in registry.find(slot.name, name).declaration.options:
                yield f"{slot.name}.{name}.{option.name}" if slot.many else f"{slot.name}.{option.name}"


def _parts(tree: Tree, words: list[str]) -> Iterator[tuple[registry.Slot, str]]:
    """The part that stands in each slot: from the words, or from what the default and the preset choose."""
    short = {name: found[0] for name, found in tree.short_names().items() if len(found) == 1}
    typed: dict[str, str] = {}
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        group = short.get(key, key.replace(".", "/"))
        if group in tree.files:
            typed[group] = f"{typed[group]},{value}" if word.startswith("+") and group in typed else value
    primary = tree.find("", "train")
    choices: dict[str, Any] = dict(chosen(primary, tree)) if primary else {}
    model = tree.find("model", str(typed.get("model", choices.get("model"))))
    choices = {**choices, **(chosen(model, tree) if model else {}), **typed}
    for slot in registry.SLOTS.values():
        choice = choices.get(slot.group)
        listed = choice if isinstance(choice, list) else str(choice or "").strip("[]").split(",")
        yield from ((slot, name) for name in listed if name in registry.names(slot.name))


def _values(tree: Tree, words: list[str], key: str, value: str) -> Iterable[str]:
    """What may stand after `key=`."""
    found = tree.short_names().get(key, [])
    group = next((g for g in (key, key.replace(".", "/"), *found[:1]) if tree.files.get(g)), None)
    if group and group not in OVERLAYS[2:]:
        before, comma, _ = value.rpartition(",")
        lead = before + comma if comma else "[" if value.startswith("[") else ""
        return [f"{lead}{option}" for option in tree.options(group)]
    if key in _PATHS:
        return _files(value)
    option = next((o for full, o in _options(tree, words) if full == key), None)
    return _choices(option.type) if option else []


def _options(tree: Tree, words: list[str]) -> Iterator[tuple[str, Any]]:
    for section, cls in SECTIONS.items():
        for name, option in options_of(cls).items():
            yield (f"{section}.{name}" if section else name), option
    for slot, name in _parts(tree, words):
        with contextlib.suppress(GptkitError):
            for option in registry.find(slot.name, name).declaration.options:
                yield (
                    (f"{slot.name}.{name}.{option.name}" if slot.many else f"{slot.name}.{option.name}"),
                    option,
                )


def _choices(kind: Any) -> Iterator[str]:
    """The values of a type that has few."""
    if kind is bool:
        yield from ("true", "false")
    elif kind is type(None):
        yield "null"
    elif get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    else:
        for part in get_args(kind) if get_origin(kind) not in (list, dict) else ():
            yield from _choices(part)


def _generate(words: list[str], last: str) -> Iterator[str]:
    from gptkit.cli.generate import Words, sampler_options
    from gptkit.cli.speaking import Speaking

    options = {**options_of(Speaking), **options_of(Words), **sampler_options()}
    yield from _spoken(options, last)


def _next(words: list[str], last: str) -> Iterator[str]:
    from gptkit.cli.speaking import Speaking

    yield from _spoken(dict(options_of(Speaking)), last)


def _spoken(options: dict[str, Any], last: str) -> Iterator[str]:
    """The words of the verbs that load a run."""
    key, equals, value = last.partition("=")
    if not equals:
        yield from (f"{name}=" for name in options)
    elif key == "run":
        yield from _runs("run=")
        yield from (f"run={path}" for path in _files(value) if path.endswith(os.sep))
    elif key == "sampler":
        yield from (f"sampler={name}" for name in registry.names("sampler"))
    elif key == "device":
        yield from (f"device={name}" for name in ("auto", "cpu", "cuda", "mps"))
    elif key in options:
        yield from (f"{key}={choice}" for choice in _choices(options[key].type))


def _components(words: list[str], last: str) -> Iterator[str]:
    from gptkit.cli.components import slot_named

    if words:
        yield from registry.names(slot_named(words[0]))
    else:
        yield from registry.SLOTS
        yield from (slot.rsplit(".", 1)[-1] for slot in registry.SLOTS if last and "." not in last)


def _new(words: list[str], last: str) -> Iterator[str]:
    if not words:
        yield "plugin"
    elif len(words) > 1:
        yield from (f"slot={slot}" for slot in registry.SLOTS)


def _import(words: list[str], last: str) -> Iterator[str]:
    key, equals, value = last.partition("=")
    if not equals:
        yield from ("from=", "out=", "tokenizer=", "data=", "activation=")
    elif key in {"from", "out", "data"}:
        yield from (f"{key}={path}" for path in _files(value))
    elif key == "tokenizer":
        yield from (f"tokenizer={name}" for name in registry.names("tokenizer"))


def _runs(lead: str) -> Iterator[str]:
    """`latest`, and the names of the newest runs."""
    yield f"{lead}latest"
    with contextlib.suppress(OSError):
        found = sorted(
            (p.name for p in Path("runs").iterdir() if (p / "config.json").is_file()), reverse=True
        )
        yield from (f"{lead}{name}" for name in found[:20])


def _files(start: str) -> Iterator[str]:
    """Files and folders whose path begins so."""
    for path in sorted(glob.glob(f"{glob.escape(start)}*")):
        yield path + os.sep if os.path.isdir(path) else path


_VERBS: dict[str, Callable[[list[str], str], Iterable[str]]] = {
    "train": _train,
    "compare": _compare,
    "show": lambda words, last: _config_words(words, last),
    "config": _config,
    "generate": _generate,
    "next": _next,
    "components": _components,
    "new": _new,
    "import": _import,
    "completion": lambda words, last: _SHELLS,
    "help": lambda words, last: verbs(),
}
